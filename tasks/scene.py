"""The clip that a head was filmed in, as far as new pictures need it: poses, expressions, and what is behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError, UsageError
from models.gaussians.camera import Camera
from models.heads.motion import jaw_pixels, mean_pose
from models.methods.talking_gaussian import Config
from models.methods.talking_gaussian_config import BLINK
from models.records import ActionUnits, Clip, HeadTrack, Layers, RefinedPoses
from models.storage import RECORD_FILE
from tasks.material import expression_inputs
from tasks.places import Keys, Places
from tasks.shots import cuts_of, longest_shot


class Behind(Protocol):
    """Gives what is behind the head."""

    def behind(self, frame: int) -> np.ndarray:
        """Return torso over plate `[H, W, 3]` float32 in 0..1 of one frame."""
        ...


@dataclass(frozen=True)
class Backdrop:
    """One picture behind every frame."""

    picture: np.ndarray  # [H, W, 3] float32 in 0..1

    def behind(self, frame: int) -> np.ndarray:
        """Return the picture."""
        return self.picture


class Shot(NamedTuple):
    """What a picture of a head needs besides the sound."""

    camera: Camera
    expression: Tensor  # [E]
    behind: np.ndarray  # [H, W, 3] float32 in 0..1


@dataclass(frozen=True)
class Scene:
    """Poses, expressions, torso and background of a clip, in which the head is drawn."""

    speaker: str
    fps: float
    sample_rate: int
    size: tuple[int, int]  # width and height, pixels
    layers: Behind
    poses: np.ndarray  # [T, 4, 4]
    intrinsics: np.ndarray  # [3, 3]
    expression: Tensor  # [T, E] what a face of some `Config` is told
    blink: int  # which of these numbers is
    valid: np.ndarray  # [T] frames in which the face was tracked
    cuts: list[int]  # first frame of each new shot

    @staticmethod
    def load(places: Places, speaker: str, config: Config) -> Scene:
        """Read what the stages gave for a speaker.

        Args:
            places: the project.
            speaker: whose clip.
            config: of the face that is to be drawn in it; says what it is told of its expression.

        Raises:
            InputError: one of the stages has not run.
        """
        keys = Keys(speaker=speaker)
        clip, track = Clip.load(places.record("ingest", keys)), HeadTrack.load(places.record("track", keys))
        return Scene(
            speaker=speaker,
            fps=clip.fps,
            sample_rate=clip.sample_rate,
            size=(clip.frames.shape[2], clip.frames.shape[1]),
            layers=Layers.load(places.record("layers", keys)),
            poses=RefinedPoses.load(places.record("pose_refine", keys)).world_to_camera,
            intrinsics=track.intrinsics,
            expression=_expressions(places, keys, config),
            blink=blink_of(config),
            valid=track.valid,
            cuts=cuts_of(clip, track),
        )

    def longest_shot(self) -> tuple[int, int]:
        """Return the longest run of frames with a face and without a cut: first frame, one past the last.

        Raises:
            InputError: there is none of two frames.
        """
        return longest_shot(self.valid, self.cuts, self.speaker)

    def camera(self, frame: int) -> Camera:
        """Return the camera of a whole frame."""
        return self.camera_of(self.poses[frame])

    def camera_of(self, pose: np.ndarray) -> Camera:
        """Return the camera of a whole picture of the head in a pose `[4, 4]`."""
        world_to_camera, intrinsics = (torch.tensor(array, dtype=torch.float32) for array in (pose, self.intrinsics))
        return Camera(world_to_camera, intrinsics, *self.size)

    def shot(self, frame: int) -> Shot:
        """Return what a frame of the clip gives to a picture."""
        return Shot(self.camera(frame), self.expression[frame], self.layers.behind(frame))

    def quiet_frame(self) -> int:
        """Return the frame with open eyes, of the longest shot, in which the head is nearest to its mean pose."""
        first, end = self.longest_shot()
        blink, poses = self.expression[first:end, self.blink].numpy(), self.poses[first:end]
        middle = jaw_pixels(mean_pose(poses)[None], self.intrinsics)
        distance = np.linalg.norm(jaw_pixels(poses, self.intrinsics) - middle, axis=-1).mean(-1)
        return first + int(np.argmin(np.where(blink <= np.median(blink), distance, np.inf)))

    def still(self, frame: int | None = None) -> Scene:
        """Return the longest shot with one frame's pose and torso in all of it; expressions go on.

        Args:
            frame: which; the quiet one if None.

        Raises:
            UsageError: there is no such frame, or no face in it.
        """
        frame = self.quiet_frame() if frame is None else frame
        if not 0 <= frame < len(self.valid) or not self.valid[frame]:
            raise UsageError(
                f"{self.speaker}: frame {frame} cannot be held",
                f"the clip has frames 0 to {len(self.valid) - 1}; this one {_what(frame, self.valid)}",
                f"--still without --frame takes frame {self.quiet_frame()}",
            )
        first, end = self.longest_shot()
        return replace(
            self,
            layers=Backdrop(self.layers.behind(frame)),
            poses=np.repeat(self.poses[frame][None], end - first, 0),
            expression=self.expression[first:end],
            valid=np.ones(end - first, bool),
            cuts=[],
        )


def _what(frame: int, valid: np.ndarray) -> str:
    return "shows no face that was tracked" if 0 <= frame < len(valid) else "is none of them"


def poses_of(places: Places, speaker: str) -> np.ndarray:
    """Return the poses `[n, 4, 4]` of a tracked clip's longest shot, the refined ones where there are any.

    Raises:
        InputError: the clip has not been tracked, or has no two frames with a face in one shot.
    """
    keys, shot = _longest_shot_of(places, speaker)
    refined = places.record("pose_refine", keys)
    if (refined / RECORD_FILE).is_file():
        return RefinedPoses.load(refined).world_to_camera[shot]
    return HeadTrack.load(places.record("track", keys)).world_to_camera[shot]


def expressions_of(places: Places, speaker: str, config: Config) -> Tensor:
    """Return the expressions `[n, E]` of a clip's longest shot, as a face of `config` is told them.

    Raises:
        InputError: one of the stages ingest, track and action_units has not run for it.
    """
    keys, shot = _longest_shot_of(places, speaker)
    return _expressions(places, keys, config)[shot]


def blink_of(config: Config) -> int:
    """Return which number of its expression tells a face of its blink."""
    return config.told.index(BLINK)


def _longest_shot_of(places: Places, speaker: str) -> tuple[Keys, slice]:
    keys = Keys(speaker=speaker)
    for stage in ("ingest", "track"):
        if not (places.record(stage, keys) / RECORD_FILE).is_file():
            why = f"the stage {stage} has not run for {speaker}"
            raise InputError(f"there is no motion of {speaker} to follow", why, f"gausstalk run {speaker}")
    clip, track = Clip.load(places.record("ingest", keys)), HeadTrack.load(places.record("track", keys))
    return keys, slice(*longest_shot(track.valid, cuts_of(clip, track), speaker))


def _expressions(places: Places, keys: Keys, config: Config) -> Tensor:
    return torch.from_numpy(expression_inputs(ActionUnits.load(places.record("action_units", keys)), config))
