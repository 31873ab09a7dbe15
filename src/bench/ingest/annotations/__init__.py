"""Annotation files of the programs that people annotate in."""
