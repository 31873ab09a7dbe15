"""The way of a run's writes to the store, also where it is away for a while."""
