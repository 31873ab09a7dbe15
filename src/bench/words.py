"""The settings of every step: one frozen dataclass each, and the only home of defaults.

Command-line options are made from these fields and MLproject repeats their defaults (a test
compares them). A type ``X | None`` is typed as ``auto`` on the command line: the step decides,
says what it chose, and logs it.
"""

AUTO = "auto"
NONE = "none"
