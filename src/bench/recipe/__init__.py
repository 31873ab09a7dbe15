"""How models become instances: the one contract that evaluate writes and everybody else reads."""
