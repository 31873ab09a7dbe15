"""Image files and arrays: how the sections of each are listed and read."""
