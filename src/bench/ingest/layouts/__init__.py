"""How users arrange their files: folder trees, files side by side, projects, volumes."""
