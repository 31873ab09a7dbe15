"""A recipe's models for other programs: a model of bioimage.io, and what says how to use it."""
