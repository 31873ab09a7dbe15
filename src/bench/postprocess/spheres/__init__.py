"""Vesicles as spheres: found in a probability, refined in the image, painted."""
