"""`gausstalk bench`: what the fast backends are worth on this machine, as ratios against the plain-torch reference."""
