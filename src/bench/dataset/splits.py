"""The splits option: which section is for training, validation and test."""

SPLITS = ("train", "val", "test")
# What images without labels have in place of a split.
UNLABELLED = "unlabelled"
# The split of sections whose tree has no split folders.
NO_SPLIT = ""
# The rule under which sections may both train and validate.
PAPER = "paper"
