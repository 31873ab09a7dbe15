"""Vision transformers that others pretrained, frozen: what a pixel classifier sees besides."""
