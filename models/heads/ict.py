"""Load ICT-FaceKit Light (Li et al., "Learning formation of physically-based face attributes", CVPR 2020; MIT).

The archive holds the neutral mesh in centimetres, quads, 100 identity and 53 expression offsets (stored as
float16), expression names in ARKit's manner, the 68 landmark vertices and the vertex range of each part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import InputError
from models.heads.embedding import Embedding
from models.heads.model import Array, HeadModel, triangulate

METRES_PER_UNIT = 0.01

# The point between the ears at eye height, in ICT's own centimetres. Its axes are already those of the head frame.
ORIGIN_CM = np.array([0.0, 3.2, 1.5])

_KEYS = (
    "neutral",
    "quads",
    "identity",
    "expression",
    "expression_names",
    "landmarks68",
    "region_names",
    "region_ranges",
)


@dataclass(frozen=True)
class IctMesh:
    """The neutral mesh with what registering landmarks needs.

    Attributes:
        neutral: `[V, 3]` metres, head frame.
        triangles: `[F, 3]` of all parts.
        landmarks68: `[68]` vertex ids in the numbering of the 68-point markup.
        regions: Named vertex ranges.
    """

    neutral: Array
    triangles: Array
    landmarks68: Array
    regions: dict[str, tuple[int, int]]


def _to_head_frame(neutral_cm: Array) -> Array:
    return ((neutral_cm.astype(np.float64) - ORIGIN_CM) * METRES_PER_UNIT).astype(np.float32)


def _read(path: Path) -> dict[str, Array]:
    with np.load(path, allow_pickle=False) as archive:
        missing = [key for key in _KEYS if key not in archive.files]
        if missing:
            raise InputError(f"{path} is not the ICT-FaceKit archive: it lacks {', '.join(missing)}")
        return {key: archive[key] for key in _KEYS}


def _regions(data: dict[str, Array]) -> dict[str, tuple[int, int]]:
    ranges = zip(data["region_names"], data["region_ranges"], strict=True)
    return {str(name): (int(first), int(end)) for name, (first, end) in ranges}


def load_ict_mesh(path: Path) -> IctMesh:
    """Read the neutral mesh alone, for `models.heads.embedding.embed_mediapipe`.

    Args:
        path: The repacked archive (`ict_facekit_light.npz`).

    Raises:
        InputError: The file is not that archive.
    """
    data = _read(path)
    return IctMesh(_to_head_frame(data["neutral"]), triangulate(data["quads"]), data["landmarks68"], _regions(data))


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
    )
