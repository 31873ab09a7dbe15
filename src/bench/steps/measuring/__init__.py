"""Helpers of measure."""
