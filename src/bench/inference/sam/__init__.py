"""What SAM is applied with: embeddings that are kept, the decoder of many prompts, tiles."""
