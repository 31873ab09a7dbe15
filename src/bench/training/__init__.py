"""Losses, patches, augmentation and the training loop."""
