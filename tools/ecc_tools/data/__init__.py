"""Labelled image sets: official formats, fixed parts, checksums."""
