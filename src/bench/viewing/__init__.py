"""What napari shows of this suite's files: prepared datasets, predictions, segmentations."""
