"""`ecc-tools split`: where to cut an edge network, and how narrow its bottleneck may be."""
