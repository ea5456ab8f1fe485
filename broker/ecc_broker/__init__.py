"""What crosses the link: topics, messages, codec, links, broker."""
