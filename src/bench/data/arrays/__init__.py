"""What HDF5 files and Zarr folders have in common, and the parts of reading each."""
