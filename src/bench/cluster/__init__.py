"""Work on many machines: a graph of tasks over the workers of a cluster."""
