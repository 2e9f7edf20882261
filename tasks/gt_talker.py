"""GaussianTalker: a speaker of the project with everything that the trained head needs to say something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from models.errors import UsageError
from models.heads.motion import jaw_pixels, mean_pose
from tasks.gt_talking_head import Filmed, GaussianHead, Shot
from tasks.methods import GAUSSIAN_TALKER
from tasks.params import load_params
from tasks.people import Speaker
from tasks.places import Places
from tasks.rendering import RenderParams
from tasks.shots import back_and_forth
from tasks.speech_features import AudioParams
from tasks.trained import heard_by, speaker_with_head

if TYPE_CHECKING:
    from tasks.acting import Acting


@dataclass(frozen=True)
class GaussianTalker:
    """Who can say something. Pose and background are those of the clip's longest shot, which runs back and forth."""

    name: str
    person: Speaker
    scene: Filmed
    extractor: str
    audio: AudioParams
    crf: int
    places: Places
    held: int | None = None
    """Frame whose pose and background every picture has; brows, lids and gaze go on."""
    articulation: float = 1.0
    """How many times as far as was learnt sound moves the face from its mean."""

    @staticmethod
    def of(places: Places, speaker: str, extractor: str = "logmel") -> GaussianTalker:
        """Return a speaker of the project.

        Raises:
            UsageError, ConsentError, InputError: as `speaker_with_head` says.
        """
        person = speaker_with_head(places, speaker, extractor, GAUSSIAN_TALKER.name)
        return GaussianTalker(
            name=speaker,
            person=person,
            scene=Filmed.load(places, speaker),
            extractor=extractor,
            audio=heard_by(places, speaker, extractor),
            crf=load_params(places.params, "render", RenderParams).crf,
            places=places,
        )

    def head(self, device: str = "cpu") -> GaussianHead:
        """Return the head, ready to draw.

        Raises:
            InputError: its modules were trained for another head model, or without this speaker.
            MissingAssetError: the head model is not on this machine.
        """
        head = GaussianHead.load(self.places, self.name, self.extractor, device)
        return replace(head, articulation=self.articulation)

    def shots(self, acting: Acting) -> Iterator[Shot]:
        """Yield what each picture needs besides the sound, without end.

        Raises:
            UsageError: the head is to act otherwise than in its clip.
        """
        if acting.poses is not None or acting.expression is not None or acting.neutral or acting.blinks != "own":
            raise cannot_act(self.name)
        return self._shots()

    def _shots(self) -> Iterator[Shot]:
        for frame in back_and_forth(*self.scene.longest_shot()):
            yield Shot(frame if self.held is None else self.held, frame)

    def articulating(self, articulation: float) -> GaussianTalker:
        """Return the talker whom sound moves so many times as far as was learnt."""
        return replace(self, articulation=articulation)

    def still(self, frame: int | None = None) -> GaussianTalker:
        """Return the talker whose head is held as in one frame, that nearest to the mean pose if None.

        Raises:
            UsageError: there is no such frame, or no face in it.
        """
        scene = self.scene
        first, end = scene.longest_shot()
        points = jaw_pixels(scene.poses[first:end], scene.track.intrinsics)
        middle = jaw_pixels(mean_pose(scene.poses[first:end])[None], scene.track.intrinsics)
        quiet = first + int(np.linalg.norm(points - middle, axis=-1).mean(-1).argmin())
        frame = quiet if frame is None else frame
        if not 0 <= frame < len(scene.valid) or not scene.valid[frame]:
            what = "shows no face that was tracked" if 0 <= frame < len(scene.valid) else "is none of them"
            raise UsageError(
                f"{self.name}: frame {frame} cannot be held",
                f"the clip has frames 0 to {len(scene.valid) - 1}; this one {what}",
                f"--still without --frame takes frame {quiet}",
            )
        return replace(self, held=frame)


def cannot_act(speaker: str) -> UsageError:
    """Return the error for a head that is to act otherwise than in its clip."""
    return UsageError(
        f"{speaker} cannot act otherwise than in the clip with GaussianTalker",
        "its faces are put into frames of the clip, whose pose, brows, lids and gaze they have",
        "leave out --pose-from, --expression-from, --neutral and --blinks, or take --method talkinggaussian",
    )
