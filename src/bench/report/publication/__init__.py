"""What is said of a result that leaves the house: a model's card, and metadata for machines."""
