"""A trained head: what renders frames for any sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from models.methods.talking_gaussian import (
    Branch,
    Camera,
    Config,
    Deformation,
    FaceMotion,
    MouthMotion,
    compose,
    draw,
)
from models.records import Weights
from tasks.material import windows_of
from tasks.people import Speaker
from tasks.places import Keys, Places
from tasks.scene import Shot
from tasks.stage import keys_per_stage

Motion = tuple[Deformation, Deformation]  # of the face and of the mouth


class TalkingHead:
    """Both trained fields, ready to draw."""

    teachers: tuple[Speaker, ...] = ()  # nobody else has taught it

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        self.device = device
        self.face, self.mouth = (
            Branch.from_tensors(kind, Config.from_record(weights.config[name]), weights.tensors, name).to(device)
            for name, kind in (("face", FaceMotion), ("mouth", MouthMotion))
        )
        with torch.no_grad():
            # Where a Gaussian rests never changes any more, so neither does what the grids say there.
            self._points = [branch.look_up() for branch in (self.face, self.mouth)]

    @property
    def config(self) -> Config:
        """Of the face."""
        return self.face.motion.config

    @staticmethod
    def load(places: Places, speaker: str, extractor: str, device: str = "cpu") -> TalkingHead:
        """Read the head that tg_fuse gave.

        Raises:
            InputError: it has not been trained yet.
        """
        keys = Keys(**{key: {"speaker": speaker, "extractor": extractor}[key] for key in keys_per_stage("tg_fuse")})
        return TalkingHead(Weights.load(places.record("tg_fuse", keys)), device)

    @torch.no_grad()
    def move(self, windows: Tensor, expression: Tensor) -> Motion:
        """Return how both fields are deformed in one frame.

        Args:
            windows: `[8, D, W]` audio features around the frame.
            expression: `[E]` action units and gaze.
        """
        audio, inputs = windows[None].to(self.device), expression[None].to(self.device)
        face, mouth = (
            branch.motion(points, audio, inputs).frame(0)
            for branch, points in zip((self.face, self.mouth), self._points, strict=True)
        )
        return face, mouth

    def mean_motion(self, conditions: Iterable[tuple[Tensor, Tensor]]) -> Motion:
        """Return each Gaussian's mean deformation over frames given as (windows, expression)."""
        total: Motion | None = None
        count = 0
        for windows, expression in conditions:
            face, mouth = self.move(windows, expression)
            total = (face, mouth) if total is None else (total[0].plus(face), total[1].plus(mouth))
            count += 1
        if total is None:
            raise ValueError("a mean over no frames")
        return total[0].over(count), total[1].over(count)

    def hear(self, values: np.ndarray) -> Iterator[Tensor]:
        """Return windows `[8, D, W]` for every entry of audio features `[T, D, W]`."""
        return audio_windows(values)

    def picture(self, shot: Shot, heard: Tensor) -> np.ndarray:
        """Draw `[H, W, 3]` uint8 of the head that hears windows `[8, D, W]`."""
        return self.draw(shot.camera, self.move(heard, shot.expression), shot.behind)

    @torch.no_grad()
    def draw(self, camera: Camera, motion: Motion | None, behind: np.ndarray) -> np.ndarray:
        """Draw the head over what is behind it.

        Args:
            camera: of the whole frame.
            motion: of `move` or `mean_motion`; None leaves both fields at rest.
            behind: `[H, W, 3]` float32 in 0..1.

        Returns:
            `[H, W, 3]` uint8.
        """
        face, mouth = motion or (None, None)
        pose, intrinsics, *size = camera
        camera = Camera(pose.to(self.device), intrinsics.to(self.device), *size)
        image = compose(
            draw(self.face.gaussians, camera, face),
            draw(self.mouth.gaussians, camera, mouth),
            torch.from_numpy(behind).to(self.device),
        )
        return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def audio_windows(values: np.ndarray) -> Iterator[Tensor]:
    """Return `[8, D, W]` windows for every entry of audio features `[T, D, W]`."""
    tensor = torch.from_numpy(values)
    return (windows_of(tensor, index) for index in range(len(values)))
