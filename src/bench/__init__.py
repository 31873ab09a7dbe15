"""Benchmark of segmentation strategies for synaptic structures in electron microscopy."""
