"""One speaker's records as training sees them: frames, masks, cameras and sound by frame index, on one device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError
from models.gaussians.camera import Camera
from models.gaussians.field import GaussianField, create_field
from models.gaussians.placing import face_points, head_center, mouth_points, pick_colors
from models.heads.mediapipe_points import EYE_RINGS, LIP_PAIRS, LIP_POINTS, OVAL
from models.methods.audio_encoder import NEIGHBOURS
from models.methods.talking_gaussian import LandmarkBatch
from models.methods.talking_gaussian_config import GAZE, Config
from models.methods.talking_gaussian_phases import Placing, Unit
from models.parsing import labels
from models.records import (
    TRAIN,
    ActionUnits,
    AudioFeatures,
    Clip,
    HeadTrack,
    Landmarks,
    Layers,
    Masks,
    RefinedPoses,
    over_plate,
)
from tasks.box import Box
from tasks.images import Images
from tasks.stage import Context

LID_POINTS = (*EYE_RINGS[0], *EYE_RINGS[1])
BOX_MARGIN_PX = 2  # around the lips' landmarks, at 256 pixels
CROP_MARGIN = 1.4  # of the mouth's crop over the largest lips' box
HEAD_MARGIN_PX = 10  # around the largest head, at 256 pixels
CARVING_VIEWS = 24
CUBE_M = 0.1  # half the side of the cube in which points are scattered where nothing says where the head is
EXTENT = 1.1  # times the largest distance of a camera from the cameras' mean
CROP_STEP = 16  # crops are whole tiles of the rasteriser


@dataclass
class Footage:
    """Records of one speaker. What a stage does not read is None."""

    clip: Clip
    points: np.ndarray  # [T, 478, 2] landmarks, pixels
    valid: np.ndarray  # [T] frames whose face was found by all who looked
    poses: np.ndarray  # [T, 4, 4] for pixels: the refined ones where there are any
    track: HeadTrack
    masks: Masks | None = None
    layers: Layers | None = None
    units: ActionUnits | None = None
    audio: AudioFeatures | None = None
    config: Config = Config()  # says what the face is told
    device: str = "cpu"

    @staticmethod
    def of(context: Context[Any], device: str = "cpu", config: Config | None = None) -> Footage:
        """Load what the stage of `context` reads.

        Args:
            context: of the stage.
            device: of all tensors.
            config: of the face; says what it is told of its expression. The default one if not given.

        Raises:
            InputError: no training frame shows a face.
        """
        reads = context.stage.reads

        def read(record: type, stage: str) -> Any:
            return context.read(record, stage) if stage in reads else None

        clip, track = context.read(Clip, "ingest"), context.read(HeadTrack, "track")
        landmarks = context.read(Landmarks, "landmarks")
        masks, refined = read(Masks, "parse"), read(RefinedPoses, "pose_refine")
        footage = Footage(
            clip=clip,
            points=landmarks.points,
            valid=landmarks.valid & track.valid & (masks.valid if masks else True),
            poses=refined.world_to_camera if refined else track.world_to_camera,
            track=track,
            masks=masks,
            layers=read(Layers, "layers"),
            units=read(ActionUnits, "action_units"),
            audio=read(AudioFeatures, "audio"),
            device=device,
            config=config or Config(),
        )
        if len(footage.train_frames) < 2:
            raise InputError(
                f"{clip.speaker}: no training frames with a face",
                "nothing can be learnt",
                "look at the landmarks stage",
            )
        return footage

    # ------------------------------------------------------------------------------------------ frames and cuts

    @cached_property
    def train_frames(self) -> np.ndarray:
        """Frames of the training part that show a face."""
        return np.flatnonzero((self.clip.split == TRAIN) & self.valid)

    @property
    def width(self) -> int:
        """Of the frames, pixels."""
        return self.clip.frames.shape[2]

    @property
    def height(self) -> int:
        """Of the frames, pixels."""
        return self.clip.frames.shape[1]

    @property
    def whole(self) -> Box:
        """All of a frame."""
        return Box(0, 0, self.width, self.height)

    @property
    def scale(self) -> float:
        """How much larger than 256 pixels the frames are: constants in pixels grow with it."""
        return max(self.width, self.height) / 256

    @cached_property
    def _images(self) -> Images:
        return Images(self.device)

    def frame(self, index: int, box: Box) -> Tensor:
        """Return the crop `[h, w, 3]` of a frame in 0..1."""
        return self._images.part(self.clip.frames, index, box.rows, box.columns).float() / 255

    def mask(self, index: int, box: Box, group: tuple[int, ...]) -> Tensor:
        """Return the crop `[h, w]` bool of where the parser saw one of `group`."""
        assert self.masks is not None
        return self._images.where(self.masks.labels, index, box.rows, box.columns, group)

    def torso(self, index: int, box: Box) -> Tensor:
        """Return the crop `[h, w, 4]` of neck and cloth in 0..1, straight alpha."""
        assert self.layers is not None
        return self._images.part(self.layers.torso, index, box.rows, box.columns).float() / 255

    def behind(self, index: int, box: Box) -> Tensor:
        """Return the crop `[h, w, 3]` of torso over background in 0..1."""
        assert self.layers is not None
        plate = self._plates[int(self.layers.plate_of[index])][box.rows, box.columns]
        return over_plate(self.torso(index, box), plate)

    @cached_property
    def _plates(self) -> Tensor:
        assert self.layers is not None
        return torch.from_numpy(self.layers.plates).to(self.device).float() / 255

    def plain(self, color: tuple[float, float, float]) -> Tensor:
        """Return a colour `[3]` to put behind a field: kept, since a GPU waits whenever it is given numbers."""
        if color not in self._colors:
            self._colors[color] = torch.tensor(color, device=self.device)
        return self._colors[color]

    @cached_property
    def _colors(self) -> dict[tuple[float, float, float], Tensor]:
        return {}

    # ---------------------------------------------------------------------------------------------------- boxes

    @cached_property
    def _lips(self) -> tuple[np.ndarray, np.ndarray]:
        """Centre `[T, 2]` and half side `[T]` of the lips' square box."""
        lips = np.nan_to_num(self.points[:, [i for i in LIP_POINTS if not np.isnan(self.points[:, i]).all()]])
        low, high = lips.min(1), lips.max(1)
        return (low + high) / 2, (high - low).max(1) / 2 + BOX_MARGIN_PX * self.scale

    def mouth_box(self, index: int) -> Box:
        """Return the square around the lips."""
        center, half = self._lips
        left, top = np.floor(center[index] - half[index]).astype(int)
        side = int(np.ceil(2 * half[index]))
        return Box(int(left), int(top), int(left) + side, int(top) + side)

    @cached_property
    def _mouth_side(self) -> int:
        largest = 2 * np.quantile(self._lips[1][self.train_frames], 0.99)
        side = _whole_tiles(CROP_MARGIN * largest)
        return min(side, self.width // CROP_STEP * CROP_STEP, self.height // CROP_STEP * CROP_STEP)

    def mouth_crop(self, index: int) -> Box:
        """Return the crop of a fixed size in which the mouth is trained."""
        return self._place(self._lips[0][index], (self._mouth_side, self._mouth_side))

    @cached_property
    def _head(self) -> tuple[np.ndarray, tuple[int, int]]:
        """Offset of the head crop's middle from that of the face's oval, and the crop's size, pixels."""
        assert self.masks is not None
        extents = []
        for index in spread(self.train_frames, 64):
            rows, columns = np.nonzero(labels.head(self.masks.labels[int(index)]))
            if len(rows):
                middle = self._oval[index]
                extents.append([*(np.array([columns.min(), rows.min()]) - middle),
                                *(np.array([columns.max(), rows.max()]) - middle)])  # fmt: skip
        if not extents:
            raise InputError(f"{self.clip.speaker}: the parser found no head in any training frame")
        margin = HEAD_MARGIN_PX * self.scale
        low = np.min(extents, 0)[:2] - margin
        high = np.max(extents, 0)[2:] + margin
        width = min(_whole_tiles(high[0] - low[0]), self.width)
        height = min(_whole_tiles(high[1] - low[1]), self.height)
        return (low + high) / 2, (width, height)

    @cached_property
    def _oval(self) -> np.ndarray:
        """Middle of the face's oval `[T, 2]`, or of all points where the source has none."""
        inner = [i for i in OVAL if not np.isnan(self.points[:, i]).all()]
        points = self.points[:, inner] if len(inner) >= 8 else self.points[:, ~np.isnan(self.points).all((0, 2))]
        points = np.nan_to_num(points)
        return (points.min(1) + points.max(1)) / 2

    def face_crop(self, index: int) -> Box:
        """Return the crop of a fixed size in which the head is trained."""
        offset, size = self._head
        return self._place(self._oval[index] + offset, size)

    def _place(self, middle: np.ndarray, size: tuple[int, int]) -> Box:
        left, top = (
            int(np.clip(round(float(middle[axis]) - size[axis] / 2), 0, limit - size[axis]))
            for axis, limit in enumerate((self.width, self.height))
        )
        return Box(left, top, left + size[0], top + size[1])

    # ------------------------------------------------------------------------------------- cameras and conditions

    @cached_property
    def intrinsics(self) -> Tensor:
        """`[3, 3]`."""
        return torch.tensor(self.track.intrinsics, dtype=torch.float32, device=self.device)

    def camera(self, index: int, box: Box) -> Camera:
        """Return the camera of a crop of a frame."""
        whole = Camera(self._poses[index], self.intrinsics, self.width, self.height)
        return whole.crop(box.left, box.top, *box.size)

    @cached_property
    def _poses(self) -> Tensor:
        return torch.from_numpy(self.poses.astype(np.float32)).to(self.device)

    @cached_property
    def extent(self) -> float:
        """How far the cameras' places reach around their mean in the head's frame, metres (3D Gaussian Splatting).

        At least the cube's half: in the official code, a speaker who sits still has a reach of next to nothing, and
        with it no Gaussian that is small enough to stay.
        """
        poses = self.poses[self.train_frames].astype(np.float64)
        places = -np.einsum("tji,tj->ti", poses[:, :3, :3], poses[:, :3, 3])
        return max(CUBE_M, EXTENT * float(np.linalg.norm(places - places.mean(0), axis=1).max()))

    def unit_m(self, unit: Unit) -> float:
        """Return what a length of 1 means where lengths are in `unit`, metres."""
        return self.extent if unit == "extent" else 1.0

    def windows(self, index: int) -> Tensor:
        """Return the audio features `[8, D, W]` around a frame."""
        return windows_of(self._sound, index)

    @cached_property
    def _sound(self) -> Tensor:
        assert self.audio is not None
        return torch.from_numpy(self.audio.values).to(self.device)

    @property
    def audio_scale(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the audio features over the training frames, `[D]` each."""
        assert self.audio is not None
        return torch.from_numpy(self.audio.mean), torch.from_numpy(self.audio.deviation)

    @cached_property
    def expression(self) -> Tensor:
        """Action units and gaze `[T, E]` as the record has them."""
        assert self.units is not None
        return torch.from_numpy(expression_inputs(self.units, self.config)).to(self.device)

    @cached_property
    def expression_scale(self) -> Tensor:
        """What the expression is divided by `[E]`: nearly the largest value of training."""
        large = torch.quantile(self.expression[torch.from_numpy(self.train_frames)], 0.95, dim=0)
        least = torch.tensor([0.05 if name in GAZE else 0.25 for name in self.config.told], device=self.device)
        return torch.maximum(large, least)

    @cached_property
    def curriculum(self) -> dict[str, np.ndarray]:
        """What incremental sampling ranks, `[T]` each: the gap between the lips in pixels, twice, and AU45, 0 to 5."""
        pairs = [pair for pair in LIP_PAIRS if not np.isnan(self.points[:, pair]).all((0, 2)).any()]
        gaps = [np.linalg.norm(self.points[:, a] - self.points[:, b], axis=1) for a, b in pairs]
        opening = np.nan_to_num(np.mean(gaps, 0)) if gaps else np.zeros(len(self.points))
        blink = np.zeros(len(self.points)) if self.units is None else self.units.columns(("AU45",))[:, 0]
        return {"opening": opening, "parting": opening, "blink": blink}

    # ---------------------------------------------------------------------------------------------- landmarks

    @cached_property
    def rest(self) -> Tensor:
        """Landmarks of the neutral face `[L, 3]`, metres."""
        return torch.tensor(self.track.rest_landmarks, dtype=torch.float32, device=self.device)

    @cached_property
    def landmark_groups(self) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of those of the lips, and which belong to the lips and which to the lids, `[L]` bool each."""
        lip, lid = (np.isin(self.track.landmark_index, group) for group in (LIP_POINTS, LID_POINTS))
        groups = (torch.from_numpy(group).to(self.device) for group in (np.flatnonzero(lip), lip, lid))
        return tuple(groups)  # type: ignore[return-value]

    def landmark_batch(self, frames: list[int]) -> LandmarkBatch:
        """Return what is known of `frames`, with the poses that landmarks gave (not the refined ones)."""
        poses, targets, weights, expression = (
            torch.stack([values[frame] for frame in frames]) for values in (*self._tracked, self.expression)
        )
        audio = torch.stack([self.windows(frame) for frame in frames])
        return LandmarkBatch(audio, expression, poses, targets, weights, *self.landmark_groups)

    @cached_property
    def _tracked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Poses `[T, 4, 4]`, landmarks `[T, L, 2]` and whether they are there `[T, L]`, of all frames."""
        points = self.points[:, self.track.landmark_index]
        present = ~np.isnan(points).any(-1)
        poses, targets, weights = (
            torch.from_numpy(array.astype(np.float32)).to(self.device)
            for array in (self.track.world_to_camera, np.nan_to_num(points), present)
        )
        return poses, targets, weights

    # ---------------------------------------------------------------------------------------------- first points

    @property
    def head_center(self) -> Tensor:
        """Where the grids are centred `[3]`, metres."""
        return torch.from_numpy(head_center(self.track.rest_landmarks, self.track.landmark_index))

    @property
    def quiet_frame(self) -> int:
        """A training frame with a nearly closed mouth."""
        opening = self.curriculum["opening"][self.train_frames]
        return int(self.train_frames[np.argsort(opening, kind="stable")[len(opening) // 30]])

    def first_face(
        self, count: int, seed: int, sh_degree: int, opacity: float, placing: Placing = "head"
    ) -> GaussianField:
        """Return the `count` Gaussians that the face begins with, on the CPU."""
        assert self.masks is not None
        if placing == "cube":
            return self._cube(count, seed, sh_degree, opacity)
        views = []
        for frame in map(int, spread(self.train_frames, CARVING_VIEWS)):
            whole = labels.select(self.masks.labels[frame], labels.HEAD + labels.INSIDE_MOUTH)
            views.append((whole, self.poses[frame], self.track.intrinsics))
        points = face_points(self.track.rest_landmarks, self.track.landmark_index, count, views, seed)
        quiet = self.quiet_frame
        colors = pick_colors(points, self.clip.frames[quiet], self.poses[quiet], self.track.intrinsics)
        return create_field(points, colors, sh_degree, opacity)

    def first_mouth(
        self, count: int, seed: int, sh_degree: int, opacity: float, placing: Placing = "head"
    ) -> GaussianField:
        """Return the dark Gaussians that the inside of the mouth begins with, on the CPU."""
        if placing == "cube":
            return self._cube(count, seed, sh_degree, opacity)
        points = mouth_points(self.track.rest_landmarks, self.track.landmark_index, count, seed)
        colors = np.random.default_rng(seed).normal(0.3, 0.05, (len(points), 3)).clip(0, 1)
        return create_field(points, colors, sh_degree, opacity)

    def _cube(self, count: int, seed: int, sh_degree: int, opacity: float) -> GaussianField:
        """Scatter nearly grey Gaussians about the middle of the head, as wide as they are apart, as released."""
        random = np.random.default_rng(seed)
        points = self.head_center.cpu().numpy() + random.uniform(-CUBE_M, CUBE_M, (count, 3))
        colors = random.normal(0.5, 0.003, (count, 3))
        return create_field(points, colors, sh_degree, opacity, width=1, scale_range_m=(0, 2 * CUBE_M))


def windows_of(values: Tensor, index: int) -> Tensor:
    """Return the windows of audio features `[T, D, W]` around window `index`: `[8, D, W]`.

    Beyond either end the last one is held, as its entries are; the released code takes zeros, which are silence for no
    extractor.
    """
    first, end = index + NEIGHBOURS[0], index + NEIGHBOURS[1] + 1
    if first >= 0 and end <= len(values):
        return values[first:end]
    return values[torch.arange(first, end, device=values.device).clamp(0, len(values) - 1)]


def expression_inputs(units: ActionUnits, config: Config) -> np.ndarray:
    """Return what a face of `config` is told of its expression `[T, E]`.

    Raises:
        UsageError: the record lacks one of the action units.
    """
    parts = [units.columns(config.action_units), *([units.gaze] if config.gaze else [])]
    return np.concatenate(parts, 1).astype(np.float32)


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of `frames`, evenly spread."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int))]


def _whole_tiles(length: float) -> int:
    return int(np.ceil(length / CROP_STEP)) * CROP_STEP
