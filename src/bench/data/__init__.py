"""Reading annotated images and writing them as one prepared dataset."""
