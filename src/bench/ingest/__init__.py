"""A user's files become the sections of a prepared dataset."""
