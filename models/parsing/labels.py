"""The parser's labels, their groups and the colours they are drawn in. CONVENTIONS.md has the table."""

from __future__ import annotations

import numpy as np

BACKGROUND = 0
SKIN = 1  # face, nose and ears
BROWS = 2
EYES = 3
GLASSES = 4
LIPS = 5
TEETH = 6
MOUTH = 7  # the inside of the mouth without teeth
HAIR = 8
NECK = 9
CLOTH = 10
OTHER = 11  # hat, earring and other things on the head
SHARED_TEETH = 12  # teeth that count as face as well; only where the masks are composed as the original does

NAMES = (
    *("background", "skin", "brows", "eyes", "glasses", "lips", "teeth", "mouth", "hair", "neck", "cloth", "other"),
    "shared teeth",
)
COUNT = len(NAMES)

FACE = (SKIN, BROWS, EYES, GLASSES, LIPS, OTHER)  # what the papers draw blue
HEAD = (*FACE, HAIR, SHARED_TEETH)
HEAD_ALONE = (*FACE, HAIR)  # the head without what is the mouth's as well
INSIDE_MOUTH = (TEETH, MOUTH, SHARED_TEETH)
TORSO = (NECK, CLOTH)

# Neighbouring regions have clearly different colours.
COLOURS = np.array(
    [
        *([0, 0, 0], [235, 175, 140], [110, 70, 30], [60, 160, 255], [120, 255, 255], [235, 60, 90]),
        *([255, 255, 255], [120, 0, 40], [150, 90, 200], [240, 200, 60], [60, 150, 90], [255, 120, 0]),
        [190, 230, 255],
    ],
    np.uint8,
)


def select(labels: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
    """Return where `labels` (any shape, uint8) are one of `group`, as bool of the same shape."""
    table = np.zeros(256, bool)
    table[list(group)] = True
    return table[labels]


def head(labels: np.ndarray) -> np.ndarray:
    """Return the head without the inside of the mouth."""
    return select(labels, HEAD)


def inside_mouth(labels: np.ndarray) -> np.ndarray:
    """Return teeth and the inside of the mouth."""
    return select(labels, INSIDE_MOUTH)


def torso(labels: np.ndarray) -> np.ndarray:
    """Return neck and cloth."""
    return select(labels, TORSO)


def intersection_over_union(found: np.ndarray, true: np.ndarray) -> float:
    """Return |found and true| / |found or true| of two bool arrays; NaN when both are empty."""
    union = int(np.count_nonzero(found | true))
    return np.count_nonzero(found & true) / union if union else float("nan")
