"""Scores of a prediction against the truth, one definition each."""
