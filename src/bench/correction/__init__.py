"""Labels corrected by hand: what a person did to them, the window for it, and what is saved."""
