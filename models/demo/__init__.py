"""The project's own, wholly synthetic speaker: geometry, appearance, speech and motion computed from formulas.

Inside the package lengths are millimetres; everything that leaves it is in metres (see CONVENTIONS.md).
Axes are those of the head frame: x to the subject's left, y up, z out of the face; the pupils lie at y = 0 and the
points between the ears at about z = 0.
"""
