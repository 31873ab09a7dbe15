"""What to annotate next, and where the annotation is doubtful."""
