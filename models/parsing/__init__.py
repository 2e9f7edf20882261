"""One label a pixel: who is in the picture, and which part of the person it is."""
