"""A trained head and the clip it was filmed in: what renders frames for any sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError
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
from models.records import ActionUnits, Clip, HeadTrack, Layers, RefinedPoses, Weights
from tasks.material import expression_inputs, windows_of
from tasks.places import Keys, Places
from tasks.stage import keys_per_stage

Motion = tuple[Deformation, Deformation]  # of the face and of the mouth


@dataclass
class Scene:
    """Poses, expressions, torso and background of a clip, in which the head is drawn."""

    clip: Clip
    layers: Layers
    poses: np.ndarray  # [T, 4, 4]
    intrinsics: np.ndarray  # [3, 3]
    expression: Tensor  # [T, E]
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
            clip=clip,
            layers=Layers.load(places.record("layers", keys)),
            poses=RefinedPoses.load(places.record("pose_refine", keys)).world_to_camera,
            intrinsics=track.intrinsics,
            expression=torch.from_numpy(
                expression_inputs(ActionUnits.load(places.record("action_units", keys)), config)
            ),
            valid=track.valid,
            cuts=sorted({*map(int, clip.cuts), *map(int, track.cuts)}),
        )

    def longest_shot(self) -> tuple[int, int]:
        """Return the longest run of frames with a face and without a cut: first frame, one past the last.

        Raises:
            InputError: there is none of two frames.
        """
        best, first = (0, 0), 0
        for frame in range(len(self.valid) + 1):
            ends = frame == len(self.valid) or frame in self.cuts or not self.valid[frame]
            if ends:
                best = max(best, (first, frame), key=lambda shot: shot[1] - shot[0])
                first = frame if frame < len(self.valid) and self.valid[frame] else frame + 1
        if best[1] - best[0] < 2:
            raise InputError(f"{self.clip.speaker}: no two frames with a face in one shot")
        return best

    def camera(self, frame: int, device: str = "cpu") -> Camera:
        """Return the camera of a whole frame."""
        pose, intrinsics = (
            torch.tensor(a, dtype=torch.float32, device=device) for a in (self.poses[frame], self.intrinsics)
        )
        return Camera(pose, intrinsics, self.clip.frames.shape[2], self.clip.frames.shape[1])


def back_and_forth(first: int, end: int, count: int) -> Iterator[int]:
    """Yield `count` frames that walk from `first` to `end` - 1 and back again, without a jump."""
    length = end - first
    period = max(1, 2 * (length - 1))
    for index in range(count):
        place = index % period
        yield first + (place if place < length else period - place)


class TalkingHead:
    """Both trained fields, ready to draw."""

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        self.device = device
        self.dilation = int(weights.config.get("mouth_dilation", 0))  # pixels; as it was trained with
        self.face, self.mouth = (
            Branch.from_tensors(kind, Config.from_record(weights.config[name]), weights.tensors, name).to(device)
            for name, kind in (("face", FaceMotion), ("mouth", MouthMotion))
        )
        self.mouth.motion.follow(self.face.motion)
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
        image = compose(
            draw(self.face.gaussians, camera, face),
            draw(self.mouth.gaussians, camera, mouth),
            torch.from_numpy(behind).to(self.device),
            self.dilation,
        )
        return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()


def audio_windows(values: np.ndarray) -> Iterator[Tensor]:
    """Return `[8, D, W]` windows for every entry of audio features `[T, D, W]`."""
    tensor = torch.from_numpy(values)
    return (windows_of(tensor, index) for index in range(len(values)))


def speak(head: TalkingHead, scene: Scene, frames: Iterable[int], windows: Iterable[Tensor]) -> Iterator[np.ndarray]:
    """Yield pictures `[H, W, 3]` uint8 of the head saying something.

    Args:
        head: who speaks.
        scene: where.
        frames: the frame of the clip that gives pose, expression, torso and background of each picture.
        windows: the audio features of each picture.
    """
    for heard, frame in zip(windows, frames, strict=False):  # in this order no frame is taken in vain at the end
        motion = head.move(heard, scene.expression[frame])
        yield head.draw(scene.camera(frame, head.device), motion, scene.layers.behind(frame))
