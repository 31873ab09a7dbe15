"""What any room may use: files, hashes, names, progress."""
