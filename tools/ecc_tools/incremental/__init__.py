"""Learners judged: on class-incremental protocols, on a stream of what goes up, and where light and lens change."""
