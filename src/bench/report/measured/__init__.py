"""Measurements of sections with what a model's errors make of them, and groups compared."""
