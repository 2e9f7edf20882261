"""Pinhole cameras in torch."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Camera(NamedTuple):
    """A pinhole camera; a crop of its image is a camera, too."""

    world_to_camera: Tensor  # [4, 4]
    intrinsics: Tensor  # [3, 3]
    width: int
    height: int

    def crop(self, left: int, top: int, width: int, height: int) -> Camera:
        """Return the camera of a part of the image, in pixels."""
        shifted = self.intrinsics.clone()
        shifted[0, 2] -= left
        shifted[1, 2] -= top
        return Camera(self.world_to_camera, shifted, width, height)

    @property
    def center(self) -> Tensor:
        """Where it stands `[3]`, head frame."""
        return -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]
