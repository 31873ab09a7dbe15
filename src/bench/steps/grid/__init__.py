"""The grid of benchmark: its cells, in this process or over a cluster."""
