"""From a probability map to instances."""
