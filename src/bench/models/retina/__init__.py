"""What the RETINA paper compares: its two networks, and the weights that are published."""
