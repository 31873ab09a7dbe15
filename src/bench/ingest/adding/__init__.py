"""Sections that are added to a prepared dataset."""
