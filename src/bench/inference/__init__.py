"""From a network and a section to a probability map."""
