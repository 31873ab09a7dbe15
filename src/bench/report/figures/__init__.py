"""Pictures of sections, scores and searches."""
