"""What other programs bring: the packages that they need, and networks that they build."""
