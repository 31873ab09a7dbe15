"""The words that stand for no value of the user's own."""

AUTO = "auto"
NONE = "none"
