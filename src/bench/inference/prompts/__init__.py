"""Prompts for Segment Anything that are made from annotated objects, and their masks."""
