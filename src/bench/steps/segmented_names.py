"""What a segmentation's files and tags are called: read by steps that write none of them."""

from bench.words import BESIDE_LABELS

INSTANCES, SECTIONS, VOLUMES_FILE = "instances.csv", "sections.csv", "volumes.csv"
PROBABILITY, OVERLAYS = BESIDE_LABELS
# What segment says of where the first voxels of images lie, by their names.
ORIGINS = "origins_nm"
# The tag of a run that says where its files are.
OUTPUT_TAG = "bench.output"
