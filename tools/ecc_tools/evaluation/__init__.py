"""`ecc-tools evaluate`: how good a model is, how sure of itself, and what it costs."""
