"""TIFF files: their tags, and what programs write into their descriptions."""
