"""What the steps that score, search and promote share."""
