"""What segment and export are made of."""
