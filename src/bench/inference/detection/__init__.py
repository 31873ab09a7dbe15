"""Boxes found in sections, and masks of them."""
