"""nnU-Net as a training: its folders and plans, and its trainer on a budget."""
