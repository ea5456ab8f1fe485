"""Networks, losses and quantization; everything here needs torch."""
