"""A trained GaussianTalker head: what draws its pictures, whatever it says.

It draws a face; everything else of a picture is a frame of its own clip, whose pose the face has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from models.errors import InputError
from models.gaussians.camera import Camera
from models.heads.mediapipe_points import EYE_RINGS, LIP_POINTS
from models.methods.gaussian_talker import Mouthing, Renderer
from models.methods.gaussian_talker_inpainting import Painter
from models.methods.gaussian_talker_networks import Coefficients, HeadTable, Translator
from models.parsing.labels import HAIR, select
from models.records import Clip, HeadTrack, Masks, RefinedPoses, Weights
from models.storage import FrameStore
from tasks.gt_head import SpeakersFace, load_painter, load_renderer, load_translator
from tasks.head_models import project
from tasks.people import Speaker, load_speaker, load_teachers
from tasks.places import Keys, Places
from tasks.shots import cuts_of, longest_shot


class Shot(NamedTuple):
    """What a picture needs besides what is said."""

    frame: int  # of the clip, that the face is put into; its pose is the head's
    acting: int  # frame whose brows, lids and gaze the face has


@dataclass(frozen=True)
class Filmed:
    """The clip of a speaker, as far as new faces are put into its frames."""

    speaker: str
    fps: float
    sample_rate: int
    frames: FrameStore  # [T, H, W, 3]
    labels: FrameStore  # [T, H, W]
    track: HeadTrack
    poses: np.ndarray  # [T, 4, 4]
    valid: np.ndarray  # [T] frames whose face was found by all who looked
    cuts: list[int]  # first frame of each new shot

    @staticmethod
    def load(places: Places, speaker: str) -> Filmed:
        """Read what the stages gave for a speaker.

        Raises:
            InputError: one of them has not run, or the clip shows no face.
        """
        keys = Keys(speaker=speaker)
        clip, track = Clip.load(places.record("ingest", keys)), HeadTrack.load(places.record("track", keys))
        masks = Masks.load(places.record("parse", keys))
        return Filmed(
            speaker=speaker,
            fps=clip.fps,
            sample_rate=clip.sample_rate,
            frames=clip.frames,
            labels=masks.labels,
            track=track,
            poses=RefinedPoses.load(places.record("pose_refine", keys)).world_to_camera,
            valid=track.valid & masks.valid,
            cuts=cuts_of(clip, track),
        )

    def longest_shot(self) -> tuple[int, int]:
        """Return the longest run of frames with a face and without a cut: first frame, one past the last.

        Raises:
            InputError: there is none of two frames.
        """
        return longest_shot(self.valid, self.cuts, self.speaker)

    def shot(self, frame: int) -> Shot:
        """Return a frame of the clip as it is; where its face was not found it acts as in the nearest one with a face.

        Raises:
            InputError: no frame of the clip shows one.
        """
        known = np.flatnonzero(self.valid)
        if not len(known):
            raise InputError(f"{self.speaker}: no frame shows a face", "", "look at the stages landmarks and parse")
        return Shot(frame, int(known[np.argmin(np.abs(known - frame))]))

    def fringe(self, frame: int) -> np.ndarray:
        """Return how much of a frame is hair above the eyes `[H, W]` float32 in 0..1: no mouth moves what it covers.

        Lower down a jaw that opens has to cover the hair beside it.
        """
        groups = (*EYE_RINGS[0], *EYE_RINGS[1]), LIP_POINTS
        places = (self.track.rest_landmarks[np.isin(self.track.landmark_index, group)].mean(0) for group in groups)
        eye, lip = project(np.stack([*places]), self.track, frame)
        hair = select(self.labels[frame], (HAIR,))
        y, x = np.mgrid[: hair.shape[0], : hair.shape[1]] + 0.5
        above = (x - eye[0]) * (eye - lip)[0] + (y - eye[1]) * (eye - lip)[1] > 0
        side = 2 * max(1, round(max(hair.shape) / 256)) + 1
        return cv2.blur((hair & above).astype(np.float32), (side, side))

    def camera(self, frame: int) -> Camera:
        """Return the camera of a whole frame."""
        pose, intrinsics = (
            torch.tensor(array, dtype=torch.float32) for array in (self.poses[frame], self.track.intrinsics)
        )
        return Camera(pose, intrinsics, *self.frames.shape[2:0:-1])


@dataclass(frozen=True)
class GaussianHead:
    """The motion translator, the renderer, and the frames that its faces are put into."""

    filmed: Filmed
    translator: Translator
    who: int  # number of the speaker's embedding
    mouthing: Mouthing
    renderer: Renderer
    table: HeadTable
    painter: Painter
    device: str
    teachers: tuple[Speaker, ...] = ()  # who else taught the translator
    articulation: float = 1.0
    """How many times as far as was learnt sound moves the face from its mean."""

    @staticmethod
    def load(places: Places, speaker: str, extractor: str, device: str = "cpu") -> GaussianHead:
        """Read what the stages gt_motion, gt_renderer and gt_inpaint gave.

        Raises:
            InputError: they have not run, or were trained for another head model or without this speaker.
            MissingAssetError: the head model is not on this machine.
            UsageError, ConsentError: who else taught them is not known any more, or must not be used.
        """
        motion = Weights.load(places.record("gt_motion", Keys(speaker=speaker, extractor=extractor)))
        drawn, painted = (
            Weights.load(places.record(stage, Keys(speaker=speaker))) for stage in ("gt_renderer", "gt_inpaint")
        )
        filmed = Filmed.load(places, speaker)
        face = SpeakersFace.of(places, load_speaker(places, speaker), filmed.track, device)
        renderer, table = load_renderer(drawn, face)
        translator = load_translator(motion, face, device)
        who = translator.config.speaker(speaker)
        painter = load_painter(painted, device)
        teachers = load_teachers(places, translator.config.speakers, speaker)
        return GaussianHead(filmed, translator, who, face.mouthing(), renderer, table, painter, device, teachers)

    @property
    def still(self) -> Tensor:
        """The mean of what was spoken in training `[O]`: a mouth that does not move."""
        return self.translator.rest[self.who]

    def hear(self, values: np.ndarray) -> Tensor:
        """Return what the face speaks `[T, O]` when it hears audio features `[T, D, W]`."""
        return torch.lerp(self.still, self.translator.speak(torch.from_numpy(values), self.who), self.articulation)

    @torch.no_grad()
    def picture(self, shot: Shot, heard: Tensor) -> np.ndarray:
        """Draw the head.

        Args:
            shot: the frame of the clip that the face is put into, and what else the face does.
            heard: `[O]` what it speaks, of `hear` or `still`.

        Returns:
            `[H, W, 3]` uint8.
        """
        expression, jaw = self.mouthing.coefficients(heard[None], torch.tensor([shot.acting], device=self.device))
        told = self.table.at(shot.frame)._replace(expression=expression[0], jaw=jaw[0])
        pose, intrinsics, *size = self.filmed.camera(shot.frame)
        camera = Camera(pose.to(self.device), intrinsics.to(self.device), *size)
        raster = self.renderer.draw(camera, told)
        values = self.filmed.frames[shot.frame].astype(np.float32) / 255
        frame = torch.from_numpy(values).to(self.device)
        own = self.renderer.draw(camera, self._own(shot.frame)).alpha
        image = self.painter.paint(raster, camera, frame, own)
        fringe = torch.from_numpy(self.filmed.fringe(shot.frame)).to(self.device)
        image = image + fringe[..., None] * (frame - image)
        return (image.clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()

    def _own(self, frame: int) -> Coefficients:
        """Return what the face of a frame of the clip does itself, as in the nearest one where it was found."""
        found = self.table.at(self.filmed.shot(frame).acting)
        return self.table.at(frame)._replace(expression=found.expression, jaw=found.jaw)
