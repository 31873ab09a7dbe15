"""A sphere fitted to a vesicle in an image, voxel by voxel."""
