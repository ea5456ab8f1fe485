"""On-device learning: the update is prepared in a child process, judged, and swapped in."""
