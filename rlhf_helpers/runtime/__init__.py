"""What the algorithm stands on: runs, ranks, files, models of any family, memory."""
