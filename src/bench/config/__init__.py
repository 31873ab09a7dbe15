"""The settings of every step, by what they govern."""
