"""The HTML page of a benchmark: one file, without a request to anywhere."""
