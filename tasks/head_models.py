"""Head models by name, and how a tracked head falls into the picture."""

from __future__ import annotations

import numpy as np

from models.heads.model import HeadModel
from models.records import HeadTrack
from tasks.assets import find_asset
from tasks.places import Places


def load_head_model(
    places: Places, name: str, identities: int | None = None, expressions: int | None = None
) -> HeadModel:
    """Return the head model that a speaker's record names (`tasks.people.HeadModelName`).

    Args:
        places: The project.
        name: "synthetic" needs no files, the others their assets and MediaPipe's canonical face.
        identities: How many identity directions of FLAME or BFM to use; None is the model's usual number.
        expressions: The same for their expressions. The others have named shapes, of which all are used.

    Raises:
        MissingAssetError: the model's files are not on this machine; says its licence and how to get it.
        InputError: one of them is not what it should be.
    """
    if name == "synthetic":
        from models.demo.head_model import build

        return build()
    from models.heads.bfm import load_bfm, load_bfm_mesh
    from models.heads.embedding import embed_mediapipe, load_canonical_face
    from models.heads.flame import load_flame, load_flame_mesh
    from models.heads.ict import load_ict, load_ict_mesh

    path = find_asset(places, "ict_facekit" if name == "ict" else name)
    canonical = load_canonical_face(find_asset(places, "canonical_face"))
    if name == "ict":
        return load_ict(path, embed_mediapipe(load_ict_mesh(path), *canonical))
    used = {"identities": identities, "expressions": expressions}
    chosen = {kind: count for kind, count in used.items() if count is not None}
    if name.startswith("flame"):
        return load_flame(path, embed_mediapipe(load_flame_mesh(path), *canonical), name, **chosen)
    return load_bfm(path, embed_mediapipe(load_bfm_mesh(path), *canonical), name, **chosen)


def posed_landmarks(model: HeadModel, head: HeadTrack, frame: int) -> np.ndarray:
    """Return the landmarks `[L, 3]` (m, head frame) of a frame: the personal rest shape moved by the expression."""
    moved = model.landmarks(head.identity, head.expression[frame], head.turns[frame]) - model.landmarks(head.identity)
    return head.rest_landmarks + moved


def project(points: np.ndarray, head: HeadTrack, frame: int) -> np.ndarray:
    """Return where points `[n, 3]` of the head fall in a frame, `[n, 2]` px."""
    pose, camera = head.world_to_camera[frame].astype(np.float64), head.intrinsics.astype(np.float64)
    seen = (points @ pose[:3, :3].T + pose[:3, 3]) @ camera.T
    return seen[:, :2] / seen[:, 2:]
