"""How well lips and sound go together: distances of what a network makes of each, over a range of lags."""
