"""One module per entry point: a recipe that reads top to bottom."""
