"""What trainings tell their runs while they run."""
