"""Networks, their weights and the checkpoint format."""
