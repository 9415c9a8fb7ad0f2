"""Networks, one architecture a file; every one takes images [B, 3, H, W] normalised to -1..1."""
