"""Synthetic cryo tomograms of a presynapse with known truth."""
