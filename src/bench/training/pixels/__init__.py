"""Fitting the trees of a pixel classifier."""
