"""The search for the best combination: thresholds, augmentations, ensembles, post-processing."""
