"""Helpers of detect and of what follows from its boxes."""
