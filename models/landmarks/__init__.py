"""Where the 478 points of a face come from."""
