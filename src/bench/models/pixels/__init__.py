"""The pixel classifier: filters, trees, and both as a network."""
