"""Head models by name, and how a tracked head falls into the picture."""

from __future__ import annotations

import numpy as np

from models.heads.model import HeadModel
from models.records import HeadTrack
from tasks.assets import find_asset
from tasks.places import Places


def load_head_model(places: Places, name: str) -> HeadModel:
    """Return the head model that a speaker's record names: "procedural" needs no files, "ict" its assets.

    Raises:
        MissingAssetError: the model's files are not on this machine.
    """
    if name == "procedural":
        from models.demo.head_model import build

        return build()
    from models.heads.embedding import embed_mediapipe, load_canonical_face
    from models.heads.ict import load_ict, load_ict_mesh

    ict = find_asset(places, "ict_facekit")
    canonical, triangles = load_canonical_face(find_asset(places, "canonical_face"))
    return load_ict(ict, embed_mediapipe(load_ict_mesh(ict), canonical, triangles))


def posed_landmarks(model: HeadModel, head: HeadTrack, frame: int) -> np.ndarray:
    """Return the landmarks `[L, 3]` (m, head frame) of a frame: the personal rest shape moved by the expression."""
    moved = model.landmarks(head.identity, head.expression[frame], head.turns[frame]) - model.landmarks(head.identity)
    return head.rest_landmarks + moved


def project(points: np.ndarray, head: HeadTrack, frame: int) -> np.ndarray:
    """Return where points `[n, 3]` of the head fall in a frame, `[n, 2]` px."""
    pose, camera = head.world_to_camera[frame].astype(np.float64), head.intrinsics.astype(np.float64)
    seen = (points @ pose[:3, :3].T + pose[:3, 3]) @ camera.T
    return seen[:, :2] / seen[:, 2:]
