"""Helpers of suspects and suggest."""
