"""What of a result is handed to others: a model's card, and a folder by which it is checked."""
