"""Gaussian splats: drawing, colour, growth."""
