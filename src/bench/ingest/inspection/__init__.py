"""The check: what a user's sections hold and what is wrong with them, without writing a dataset."""
