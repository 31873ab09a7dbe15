"""TrakEM2 projects: annotation drawn over montages of serial sections."""
