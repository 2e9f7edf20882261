"""Load the Basel Face Model 2009 with expressions.

The model is that of Paysan et al., "A 3D face model for pose and illumination invariant face recognition", AVSS 2009;
Guo et al., "CNN-based real-time dense face reconstruction with inverse-rendered photo-realistic face images", PAMI
2018, made its expressions. The archive holds the 34,650 vertices of the face that the trackers of talking heads since
AD-NeRF use, with 199 identity and 79 expression directions of unit length in micrometres and their standard
deviations. Those trackers count in decimetres from the mean vertex; here it is metres from the point between the ears,
as everywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.heads.archive import check_indices, read_arrays
from models.heads.embedding import Embedding, Template
from models.heads.model import COMPONENTS, Array, HeadModel

METRES_PER_UNIT = 1e-6
USUAL_IDENTITY, USUAL_EXPRESSION = 100, 79

_LIDS = slice(36, 48)  # of the 68-point markup
_LIDS_BEFORE_ORIGIN_M = 0.077  # from the point between the ears to the middle of all lids

_SHAPES = {
    "shapeMU": ("vertices", 3),
    "shapePC": ("vertices", 3, "identities"),
    "shapeEV": ("identities",),
    "expMU": ("vertices", 3),
    "expPC": ("vertices", 3, "expressions"),
    "expEV": ("expressions",),
    "tl": ("triangles", 3),
    "landmarks68": (68,),
}


def _read(path: Path) -> dict[str, Array]:
    data = read_arrays(path, "a converted Basel Face Model", _SHAPES)
    for name in ("tl", "landmarks68"):
        check_indices(path, name, data[name], len(data["shapeMU"]))
    return data


def _to_head_frame(data: dict[str, Array]) -> Array:
    neutral = (data["shapeMU"].astype(np.float64) + data["expMU"]) * METRES_PER_UNIT
    lids = neutral[data["landmarks68"][_LIDS]].mean(0)
    return (neutral - lids + [0, 0, _LIDS_BEFORE_ORIGIN_M]).astype(np.float32)


def _directions(data: dict[str, Array], kind: str, count: int) -> Array:
    scaled = data[f"{kind}PC"][..., :count] * (data[f"{kind}EV"][:count] * METRES_PER_UNIT)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1).astype(np.float32))


def load_bfm_mesh(path: Path) -> Template:
    """Read the neutral face alone, for `models.heads.embedding.embed_mediapipe`.

    Args:
        path: The converted archive.

    Raises:
        InputError: The file is not that archive.
    """
    data = _read(path)
    neutral = _to_head_frame(data)
    return Template(neutral, data["tl"], np.ones(len(neutral), bool), data["landmarks68"])


def load_bfm(
    path: Path, embedding: Embedding, name: str, identities: int = USUAL_IDENTITY, expressions: int = USUAL_EXPRESSION
) -> HeadModel:
    """Read the Basel Face Model as a `HeadModel` in metres with its origin between the ears at eye height.

    Args:
        path: The converted archive.
        embedding: Where the MediaPipe landmarks lie on its mesh.
        name: For reports.
        identities: How many of the 199 identity directions to use.
        expressions: How many of the 79 expression directions to use.

    Raises:
        InputError: The file is not that archive.
    """
    data = _read(path)
    expression = _directions(data, "exp", expressions)
    return HeadModel(
        name=name,
        neutral=_to_head_frame(data),
        triangles=data["tl"].astype(np.int32),
        identity=_directions(data, "shape", identities),
        expression=expression,
        expression_names=tuple(f"expression_{i + 1:03d}" for i in range(len(expression))),
        landmark_index=embedding.landmark_index,
        landmark_triangle=embedding.triangle,
        landmark_barycentric=embedding.barycentric,
        expression_range=COMPONENTS,
        landmarks68=data["landmarks68"],
    )
