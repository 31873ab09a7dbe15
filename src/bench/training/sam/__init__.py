"""Training SAM: patches with instances, and prompts that follow what is still wrong."""
