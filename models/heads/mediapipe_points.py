"""Named groups of MediaPipe's 478 face landmarks.

"Right" and "left" are the subject's. The numbering is that of MediaPipe's canonical face model.
"""

from __future__ import annotations

LANDMARK_COUNT = 478
MESH_POINT_COUNT = 468  # the rest are the ten iris points

EYE_OUTER_RIGHT = 33
EYE_OUTER_LEFT = 263

# The eight open curves that bound the eyes and the lips, each from the subject's right to the left corner
# (eyes: from the outer to the inner corner).
CURVES: dict[str, tuple[int, ...]] = {
    "eye_right_upper": (33, 246, 161, 160, 159, 158, 157, 173, 133),
    "eye_right_lower": (33, 7, 163, 144, 145, 153, 154, 155, 133),
    "eye_left_upper": (263, 466, 388, 387, 386, 385, 384, 398, 362),
    "eye_left_lower": (263, 249, 390, 373, 374, 380, 381, 382, 362),
    "lip_outer_upper": (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
    "lip_outer_lower": (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
    "lip_inner_upper": (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
    "lip_inner_lower": (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
}
# All 72 points of those curves: they slide with the lids and the lips, so no fixed correction may be learnt for them.
RING_POINTS: tuple[int, ...] = tuple(sorted({point for curve in CURVES.values() for point in curve}))

LIP_POINTS: tuple[int, ...] = tuple(dict.fromkeys(p for name in CURVES if name.startswith("lip") for p in CURVES[name]))


def _ring(name: str) -> tuple[int, ...]:
    upper, lower = CURVES[f"{name}_upper"], CURVES[f"{name}_lower"]
    return (*upper, *lower[-2:0:-1])


# The same points as closed rings that follow the upper curve and come back along the lower one; the right eye first.
EYE_RINGS = (_ring("eye_right"), _ring("eye_left"))
LIP_RING_OUTER, LIP_RING_INNER = _ring("lip_outer"), _ring("lip_inner")

# Rings as well: the upper border from the outer to the inner end, and back along the lower border.
BROW_RINGS = ((70, 63, 105, 66, 107, 55, 65, 52, 53, 46), (300, 293, 334, 296, 336, 285, 295, 282, 283, 276))

# Of the right and the left eye: centre, then image right, top, left, bottom.
IRISES = ((468, 469, 470, 471, 472), (473, 474, 475, 476, 477))

# From the top of the forehead by the subject's left side to the chin and back by the right side.
OVAL: tuple[int, ...] = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)

# The part of the oval along the jaw, from the subject's left ear to the right one.
JAW: tuple[int, ...] = (361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58, 132)

# Pairs (upper, lower) whose distance is the opening of the mouth or of an eye.
LIP_PAIRS: tuple[tuple[int, int], ...] = ((81, 178), (82, 87), (13, 14), (312, 317), (311, 402))
LID_PAIRS_RIGHT: tuple[tuple[int, int], ...] = ((160, 144), (159, 145), (158, 153))
LID_PAIRS_LEFT: tuple[tuple[int, int], ...] = ((385, 380), (386, 374), (387, 373))

# Outline of the nearly rigid patch between the inner brows, the inner eye corners and the nose tip.
RIGID_PATCH: tuple[int, ...] = (9, 107, 336, 133, 362, 122, 351, 48, 278, 4, 193, 417)

# Outlines of the parts of a face that move least against the skull: that patch, the forehead, and of the right and the
# left side the temple and the cheekbone.
RIGID_PARTS: tuple[tuple[int, ...], ...] = (
    RIGID_PATCH,
    (104, 69, 108, 151, 337, 299, 333, 297, 338, 10, 109, 67),
    (68, 71, 139, 34, 143, 156),
    (298, 301, 368, 264, 372, 383),
    (143, 111, 117, 118, 119, 100, 101, 50, 123, 116),
    (372, 340, 346, 347, 348, 329, 330, 280, 352, 345),
)

# Entries of the landmarker's 52 blendshape scores (0 is the neutral face).
BLENDSHAPE_BLINK_LEFT = 9
BLENDSHAPE_BLINK_RIGHT = 10

# The counterpart of each point of the 68-point markup; of the jaw's only the lower ones are sure.
POINTS_68: tuple[int, ...] = (
    *(127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 81, 13, 311, 308, 402, 14, 178),
)
