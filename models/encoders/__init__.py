"""Encoders that turn positions and signals into features."""
