"""Models that another program predicts with."""
