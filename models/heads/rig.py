"""A head model in torch: vertices as a differentiable function of identity, expression and jaw.

What `models.heads.model.HeadModel.vertices` computes in numpy, for chosen vertices and many frames at once, with all
joints but the jaw at rest, as the tracker leaves them.
"""

from __future__ import annotations

from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from models.gaussians.rotation import matrix_of
from models.heads.mediapipe_points import EYE_RINGS, LIP_POINTS
from models.heads.model import HeadModel
from models.heads.mouth_parts import REGION

JAW_ANGLES = 3
NEAR_M, FADES_M = 0.006, 0.02
NEIGHBOURS = 8
LEFT_OUT = ("head_neck", "eye_socket_left", "eye_socket_right")
"""Regions of head models that are no part of a face."""
INSIDE = ("mouth_socket", "gums_tongue", "teeth", REGION)
EYEBALLS = ("eyeball_left", "eyeball_right")
NEAR_LANDMARK_M = 0.008
"""Triangles so near to a landmark of lips or lids count as theirs, metres."""


class Rig:
    """Chosen vertices of a head model."""

    def __init__(
        self,
        model: HeadModel,
        vertices: np.ndarray | None = None,
        offsets: np.ndarray | None = None,
        device: str = "cpu",
    ) -> None:
        """Prepare.

        Args:
            model: the head model.
            vertices: `[V]` ids of those that are wanted; all if None.
            offsets: `[V, 3]` what the model does not know of a person's neutral face, metres; see `spread`.
            device: of all tensors.
        """
        chosen = np.arange(len(model.neutral)) if vertices is None else vertices

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

        self.neutral = tensor(model.neutral[chosen] + (0 if offsets is None else offsets))  # [V, 3]
        self.identity = tensor(model.identity[:, chosen]).flatten(1)  # [K, 3 V]
        self.expression = tensor(model.expression[:, chosen]).flatten(1)  # [E, 3 V]
        self.jaw_angles = 0 if model.skeleton is None else JAW_ANGLES
        if model.skeleton is not None:
            skeleton, jaw = model.skeleton, model.skeleton.jaw
            self.carried = tensor(skeleton.weights[chosen, jaw, None])  # [V, 1] how much the jaw carries each
            self.correctives = tensor(skeleton.correctives[9 * (jaw - 1) : 9 * jaw, chosen]).flatten(1)  # [9, 3 V]
            self.joint = tensor(skeleton.joints[jaw])  # [3]
            self.joint_identity = tensor(np.einsum("v,kvc->kc", skeleton.regressor[jaw], model.identity))
            self.joint_expression = tensor(np.einsum("v,evc->ec", skeleton.regressor[jaw], model.expression))

    def part(self, vertices: Tensor) -> Rig:
        """Return the rig of some of its vertices (indices `[U]`)."""
        part = copy(self)
        part.neutral = self.neutral[vertices]
        part.identity, part.expression = (_of(vertices, basis) for basis in (self.identity, self.expression))
        if self.jaw_angles:
            part.carried, part.correctives = self.carried[vertices], _of(vertices, self.correctives)
        return part

    def shape(self, identity: Tensor) -> Tensor:
        """Return how the vertices `[..., 3 V]` of identities `[..., K]` differ from the mean head's."""
        return identity @ self.identity

    def vertices(self, identity: Tensor, expression: Tensor, jaw: Tensor | None = None) -> Tensor:
        """Return vertices in metres, head frame.

        Args:
            identity: `[K]` or `[B, K]` coefficients.
            expression: `[B, E]` coefficients.
            jaw: `[B, 3]` rotation vectors of the jaw, radians; None, or of no width: it is at rest.

        Returns:
            `[B, V, 3]`.
        """
        offsets = self.shape(identity) + expression @ self.expression
        shaped = self.neutral + offsets.unflatten(-1, (-1, 3))
        if jaw is None or not jaw.shape[-1]:
            return shaped
        change = matrix_of(jaw) - torch.eye(3, device=jaw.device)  # [B, 3, 3]
        shaped = shaped + (change.flatten(-2) @ self.correctives).unflatten(-1, (-1, 3))
        joint = self.joint + identity @ self.joint_identity + expression @ self.joint_expression
        return shaped + self.carried * ((shaped - joint[..., None, :]) @ change.transpose(-1, -2))


def _of(vertices: Tensor, basis: Tensor) -> Tensor:
    return basis.unflatten(1, (-1, 3))[:, vertices].flatten(1)


class FaceMesh(NamedTuple):
    """The part of a head model that is a face, inside of the mouth included."""

    vertices: np.ndarray  # [V] ids in the head model
    triangles: np.ndarray  # [F, 3] ids in `vertices`
    inside: np.ndarray  # [F] bool, teeth, gums, tongue and cavity
    lips: np.ndarray  # [F] bool
    fine: np.ndarray  # [F] bool, lips and lids
    eyeballs: np.ndarray  # [F] bool; not all models have any


def face_mesh(model: HeadModel) -> FaceMesh:
    """Return the part of a head model that Gaussians are bound to."""
    corners = model.triangles

    def within(names: tuple[str, ...]) -> np.ndarray:
        ranges = [model.regions[name] for name in names if name in model.regions]
        found = np.zeros(len(corners), bool)
        for first, end in ranges:
            found |= ((corners >= first) & (corners < end)).any(1)
        return found

    kept = ~within(LEFT_OUT)
    inside = within(INSIDE)[kept]
    centres = model.neutral[corners[kept]].mean(1)

    def near(numbers: tuple[int, ...]) -> np.ndarray:
        points = model.at_landmarks(model.neutral)[model.rows_of(numbers)]
        return ~inside & (cKDTree(points).query(centres)[0] < NEAR_LANDMARK_M if len(points) else False)

    lips, lids = near(LIP_POINTS), near((*EYE_RINGS[0], *EYE_RINGS[1]))
    vertices, triangles = np.unique(corners[kept], return_inverse=True)
    return FaceMesh(vertices, triangles.reshape(-1, 3), inside, lips, lips | lids, within(EYEBALLS)[kept])


def spread(points: np.ndarray, offsets: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Carry what is known at some points over to the vertices around them; it fades with the distance.

    Args:
        points: `[L, 3]` for example landmarks, metres.
        offsets: `[L, 3]` known there.
        vertices: `[V, 3]`.

    Returns:
        `[V, 3]` float32.
    """
    distance, nearest = cKDTree(points).query(vertices, min(NEIGHBOURS, len(points)))
    weights = np.exp(-((distance - distance[:, :1]) / NEAR_M))
    mean = (weights[..., None] * offsets[nearest]).sum(1) / weights.sum(1, keepdims=True)
    return (mean * np.exp(-((distance[:, :1] / FADES_M) ** 2))).astype(np.float32)
