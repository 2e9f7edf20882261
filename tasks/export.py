"""`gausstalk export`: a trained head as Gaussians that splat viewers open, and as one file that speaks elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.errors import UsageError
from models.gaussians.field import GaussianField
from models.gaussians.ply import ply_bytes
from models.gaussians.spherical_harmonics import Y0
from models.methods.talking_gaussian_networks import Deformation
from models.records import AudioFeatures
from tasks.outputs import make_folder
from tasks.people import MARKS
from tasks.places import Keys, Places
from tasks.progress import track
from tasks.talker import Talker
from tasks.talking_head import Motion, TalkingHead, audio_windows

MOST_FRAMES = 10_000
FRAMES_EXAMPLE = "--frames 3,10:20,0:100:25"
SUNK_M = 0.02  # how much deeper the inside of the mouth lies in head.ply


def export(
    places: Places, talker: Talker, folder: Path, frames: Sequence[int] = (), still: int | None = None
) -> list[Path]:
    """Write a head into a folder; return the files.

    They are `<speaker>.safetensors`, which `gausstalk say` takes in the place of a speaker, and in `canonical` and
    `frame_000123` the Gaussians at rest and as they lie in frames of the clip: `face.ply`, `mouth.ply`, and both in
    `head.ply`. The project draws the face over the mouth, whatever their depths; a viewer sorts all Gaussians by depth,
    so in that file the inside of the mouth lies 2 cm deeper, where the lips and what is around them hide it.

    Args:
        places: the project.
        talker: a speaker of it.
        folder: made if need be.
        frames: of the clip, that are written as Gaussians.
        still: the frame whose pose and torso the file for `say` has; None: a quiet one.

    Raises:
        UsageError: the clip has no such frame, `still` shows no face, or the folder cannot be made or written into.
        InputError: the features of the clip are not there.
    """
    head = TalkingHead(talker.weights)
    count = len(talker.scene.valid)
    for frame in frames:
        if not 0 <= frame < count:
            why = f"the clip has frames 0 to {count - 1}"
            raise UsageError(f"{talker.name}: no frame {frame}", why, "leave it out of --frames")
    if still is not None:
        _check_still(talker, still)
    make_folder(folder)
    path = folder / f"{talker.name}.safetensors"
    talker.save(path, still)
    written = [path, *_write_fields(folder / "canonical", talker, head, None, "at rest")]
    if frames:
        keys = Keys(speaker=talker.name, extractor=talker.extractor)
        windows = list(audio_windows(AudioFeatures.load(places.record("audio", keys)).values))
        for frame in track(frames, f"{talker.name}: Gaussians", len(frames)):
            motion = head.move(windows[frame], talker.scene.expression[frame])
            written += _write_fields(folder / f"frame_{frame:06d}", talker, head, motion, f"frame {frame} of the clip")
    return written


def _check_still(talker: Talker, frame: int) -> None:
    try:
        talker.still(frame)
    except UsageError as error:
        fix = f"leave --still out: frame {talker.scene.quiet_frame()} is taken"
        raise UsageError(error.what, error.why, fix) from error


def _write_fields(folder: Path, talker: Talker, head: TalkingHead, motion: Motion | None, what: str) -> list[Path]:
    face, mouth = head.face.gaussians, head.mouth.gaussians
    if motion is not None:
        face, mouth = (deformed(field, moved) for field, moved in zip((face, mouth), motion, strict=True))
    make_folder(folder)
    written = []
    sunk = replace(mouth, means=mouth.means - mouth.means.new_tensor([0, 0, SUNK_M]))
    for name, fields in (("head", (sunk, face)), ("face", (face,)), ("mouth", (mouth,))):
        path = folder / f"{name}.ply"
        path.write_bytes(ply_bytes(fields, [f"{name} of {talker.name}, {what}", *_provenance(talker)]))
        written.append(path)
    return written


def deformed(field: GaussianField, deformation: Deformation) -> GaussianField:
    """Return the field with the deformation of one frame applied."""
    changes = {name: part for name, part in deformation._asdict().items() if part is not None}
    if "colors" in changes:  # seen from anywhere
        changes["colors"] = changes["colors"][:, None] / Y0
    return replace(field, **{name: getattr(field, name) + change for name, change in changes.items()})


def _provenance(talker: Talker) -> list[str]:
    person = talker.person
    about = [f"made with gausstalk: {talker.weights.method}, {talker.extractor}", f"basis: {person.basis}"]
    if person.consent is not None:
        about.append(f"consent of {person.consent.who} until {person.consent.expiry}: {person.consent.scope}")
    if person.research is not None:
        about.append(f"source: {person.research.source}")
    if MARKS[person.basis]:
        about.append(MARKS[person.basis])
    return [*about, "axes: x right, y down, z away from who looks at the face; metres"]


def parse_frames(text: str) -> list[int]:
    """Return the frames of `3,10:20,0:100:25`: single ones, and ranges first:end[:step] without their end.

    Raises:
        UsageError: it is written in another way, or names no frame or more than 10000.
    """
    frames: list[int] = []
    for part in filter(None, text.split(",")):
        try:
            numbers = [int(number) for number in part.split(":")]
            some = range(*numbers) if len(numbers) > 1 else range(numbers[0], numbers[0] + 1)
        except (ValueError, TypeError) as error:
            why = "a frame is a whole number; a range is first:end or first:end:step, with a step above or below 0"
            raise UsageError(f"--frames {text}: {part!r} is no frame", why, FRAMES_EXAMPLE) from error
        if not some:
            raise UsageError(
                f"--frames {text}: {part!r} names no frame",
                "it is first:end[:step], and the end is not among them",
                FRAMES_EXAMPLE,
            )
        if len(frames) + len(some) > MOST_FRAMES:
            what, why = f"--frames {text}: more than {MOST_FRAMES} frames", "three files are written for each"
            raise UsageError(what, why, "take every fifth, for example: 0:1000:5")
        frames += some
    if text and not frames:
        raise UsageError(f"--frames {text!r} names no frame", "", FRAMES_EXAMPLE)
    return list(dict.fromkeys(frames))
