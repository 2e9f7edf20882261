"""How alike two pictures look, measured in the features of a network that recognises things (LPIPS)."""
