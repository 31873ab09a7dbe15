"""The contract of a prepared dataset."""
