"""Load ICT-FaceKit Light (Li et al., "Learning formation of physically-based face attributes", CVPR 2020; MIT).

The archive holds the neutral mesh in centimetres, quads, 100 identity and 53 expression offsets (stored as
float16), expression names in ARKit's manner, the 68 landmark vertices and the vertex range of each part.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.heads.archive import read_arrays
from models.heads.embedding import Embedding, Template
from models.heads.model import Array, HeadModel, triangulate

METRES_PER_UNIT = 0.01

# The point between the ears at eye height, in ICT's own centimetres. Its axes are already those of the head frame.
ORIGIN_CM = np.array([0.0, 3.2, 1.5])

_SHAPES = {
    "neutral": ("vertices", 3),
    "quads": ("polygons", 4),
    "identity": ("identities", "vertices", 3),
    "expression": ("expressions", "vertices", 3),
    "expression_names": ("expressions",),
    "landmarks68": (68,),
    "region_names": ("regions",),
    "region_ranges": ("regions", 2),
}


def _to_head_frame(neutral_cm: Array) -> Array:
    return ((neutral_cm.astype(np.float64) - ORIGIN_CM) * METRES_PER_UNIT).astype(np.float32)


def _read(path: Path) -> dict[str, Array]:
    return read_arrays(path, "the ICT-FaceKit archive", _SHAPES)


def _regions(data: dict[str, Array]) -> dict[str, tuple[int, int]]:
    ranges = zip(data["region_names"], data["region_ranges"], strict=True)
    return {str(name): (int(first), int(end)) for name, (first, end) in ranges}


def load_ict_mesh(path: Path) -> Template:
    """Read the neutral face alone, for `models.heads.embedding.embed_mediapipe`.

    Args:
        path: The repacked archive (`ict_facekit_light.npz`).

    Raises:
        InputError: The file is not that archive.
    """
    data = _read(path)
    regions, triangles = _regions(data), triangulate(data["quads"])
    vertices = np.arange(len(data["neutral"]))
    return Template(
        neutral=_to_head_frame(data["neutral"]),
        triangles=triangles[(triangles < regions["face"][1]).all(1)],
        skin=vertices < regions["narrow_face"][1],
        landmarks68=data["landmarks68"],
    )


def load_ict(path: Path, embedding: Embedding) -> HeadModel:
    """Read ICT-FaceKit as a `HeadModel` in metres with its origin between the ears at eye height.

    Args:
        path: The repacked archive (`ict_facekit_light.npz`).
        embedding: Where the MediaPipe landmarks lie on its mesh.

    Raises:
        InputError: The file is not that archive.
    """
    data = _read(path)
    return HeadModel(
        name="ict",
        neutral=_to_head_frame(data["neutral"]),
        triangles=triangulate(data["quads"]),
        identity=data["identity"].astype(np.float32) * np.float32(METRES_PER_UNIT),
        expression=data["expression"].astype(np.float32) * np.float32(METRES_PER_UNIT),
        expression_names=tuple(str(name) for name in data["expression_names"]),
        landmark_index=embedding.landmark_index,
        landmark_triangle=embedding.triangle,
        landmark_barycentric=embedding.barycentric,
        regions=_regions(data),
        landmarks68=data["landmarks68"],
    )
