"""What is measured of segmented objects: sizes, places, distances, contacts, and their errors."""
