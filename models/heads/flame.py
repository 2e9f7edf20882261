"""Load FLAME (Li et al., "Learning a model of facial shape and expression from 4D scans", SIGGRAPH Asia 2017).

All releases (2020, 2023 and 2023 Open) have one format and one topology of 5023 vertices: 300 directions of identity
and 100 of expression in standard deviations, five joints, and correctives of their rotations. What is read here is
the archive of plain arrays into which the official pickle has been converted, under its own names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.errors import InputError
from models.heads.archive import check_indices, read_arrays
from models.heads.embedding import Embedding, Template
from models.heads.model import COMPONENTS, Array, HeadModel
from models.heads.skinning import Range, Skeleton

JOINTS = ("root", "neck", "jaw", "eye_left", "eye_right")
USUAL_IDENTITY, USUAL_EXPRESSION = 100, 50  # how many directions trackers such as DECA use

_IDENTITIES = 300  # of the columns of `shapedirs`; the rest are expressions
_PARENTS = [-1, 0, 1, 1, 1]
_EYES_BEFORE_ORIGIN_M = 0.07  # from the point between the ears to that between the middles of the eyeballs
_OFFICIAL_VERTICES = 5023

# The jaw opens about x, to some 30 degrees; when speaking it hardly turns about the others.
_JAW_RANGE = (Range(0.0, 0.5, 0.15), Range(-0.1, 0.1, 0.03), Range(-0.1, 0.1, 0.03))

# The 68-point markup on the official topology, found on the template for this project: lids and lips on the edges
# that are seen from the front, the left side as the mirror image of the right one.
_LANDMARKS68 = (
    2212,
    1963,
    3486,
    3383,
    3387,
    3389,
    3392,
    3397,
    3399,
    3600,
    3594,
    3587,
    3583,
    3579,
    3757,
    568,
    730,
    3763,
    3157,
    335,
    3153,
    2177,
    672,
    2134,
    16,
    2138,
    3892,
    3555,
    3518,
    3501,
    3526,
    2750,
    2792,
    3556,
    1675,
    1618,
    2447,
    2453,
    2494,
    3632,
    2278,
    2334,
    3833,
    1343,
    1218,
    1195,
    958,
    829,
    2712,
    2814,
    2774,
    3543,
    1657,
    1697,
    1576,
    1795,
    1866,
    3511,
    2949,
    2898,
    2845,
    2784,
    3533,
    1667,
    1730,
    1826,
    3509,
    2928,
)

_SHAPES = {
    "v_template": ("vertices", 3),
    "f": ("triangles", 3),
    "shapedirs": ("vertices", 3, "directions"),
    "posedirs": ("vertices", 3, 36),
    "J_regressor": (5, "vertices"),
    "weights": ("vertices", 5),
    "kintree_table": (2, 5),
}


def _read(path: Path) -> dict[str, Array]:
    data = read_arrays(path, "a converted FLAME model", _SHAPES, {"landmarks68": (68,)})
    count = len(data["v_template"])
    if data["shapedirs"].shape[2] <= _IDENTITIES:
        raise InputError(
            f"{path}: {data['shapedirs'].shape[2]} directions of shape", f"FLAME has {_IDENTITIES} and its expressions"
        )
    parents = data["kintree_table"][0].astype(np.int64)
    if parents[1:].tolist() != _PARENTS[1:]:
        raise InputError(f"{path}: joints hang on {parents[1:].tolist()}", f"FLAME's hang on {_PARENTS[1:]}")
    if "landmarks68" not in data:
        if count != _OFFICIAL_VERTICES:
            raise InputError(
                f"{path}: {count} vertices", f"landmarks are known on the official {_OFFICIAL_VERTICES} only"
            )
        data["landmarks68"] = np.array(_LANDMARKS68)
    for name in ("f", "landmarks68"):
        check_indices(path, name, data[name], count)
    return data


def _joints(data: dict[str, Array]) -> Array:
    return data["J_regressor"].astype(np.float64) @ data["v_template"]


def _origin(data: dict[str, Array]) -> Array:
    return _joints(data)[[JOINTS.index("eye_left"), JOINTS.index("eye_right")]].mean(0) - [0, 0, _EYES_BEFORE_ORIGIN_M]


def _to_head_frame(data: dict[str, Array]) -> Array:
    return (data["v_template"] - _origin(data)).astype(np.float32)


def load_flame_mesh(path: Path) -> Template:
    """Read the neutral face alone, for `models.heads.embedding.embed_mediapipe`.

    Args:
        path: The converted archive.

    Raises:
        InputError: The file is not that archive.
    """
    data = _read(path)
    # The eyeballs are pieces of their own that only the eye joints carry.
    on_eye = data["weights"][:, [JOINTS.index("eye_left"), JOINTS.index("eye_right")]].sum(1) > 0.5
    triangles = data["f"]
    return Template(_to_head_frame(data), triangles[~on_eye[triangles].any(1)], ~on_eye, data["landmarks68"])


def load_flame(
    path: Path,
    embedding: Embedding,
    name: str,
    identities: int = USUAL_IDENTITY,
    expressions: int = USUAL_EXPRESSION,
) -> HeadModel:
    """Read FLAME as a `HeadModel` in metres with its origin between the ears at eye height.

    Args:
        path: The converted archive.
        embedding: Where the MediaPipe landmarks lie on its mesh.
        name: Which release it is, for reports.
        identities: How many of the 300 identity directions to use.
        expressions: How many of the 100 expression directions to use.

    Raises:
        InputError: The file is not that archive.
    """
    data = _read(path)
    directions = data["shapedirs"].astype(np.float32).transpose(2, 0, 1)
    identity, expression = directions[:_IDENTITIES][:identities], directions[_IDENTITIES:][:expressions]
    return HeadModel(
        name=name,
        neutral=_to_head_frame(data),
        triangles=data["f"].astype(np.int32),
        identity=np.ascontiguousarray(identity),
        expression=np.ascontiguousarray(expression),
        expression_names=tuple(f"expression_{i + 1:03d}" for i in range(len(expression))),
        landmark_index=embedding.landmark_index,
        landmark_triangle=embedding.triangle,
        landmark_barycentric=embedding.barycentric,
        expression_range=COMPONENTS,
        landmarks68=data["landmarks68"],
        skeleton=Skeleton(
            names=JOINTS,
            parents=np.array(_PARENTS),
            joints=_joints(data) - _origin(data),
            regressor=data["J_regressor"].astype(np.float64),
            weights=data["weights"].astype(np.float64),
            correctives=data["posedirs"].astype(np.float32).transpose(2, 0, 1),
            jaw=JOINTS.index("jaw"),
            jaw_range=_JAW_RANGE,
        ),
    )
