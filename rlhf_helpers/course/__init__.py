"""What the notebooks need beside the algorithm and the labels."""
