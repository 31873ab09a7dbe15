"""Who works on a run: claims, locks and signs of life."""
