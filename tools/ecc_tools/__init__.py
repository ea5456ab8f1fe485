"""Setup stage and measurement."""
