"""Instance labels written for the programs that people annotate in, without losing a pixel."""
