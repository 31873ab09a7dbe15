"""The table of compare: its records, report, and how it is watched."""
