"""`ecc-tools bench`: measurements whose candidates alternate in one run."""
