"""The demo speaker: a synthetic head that talks, the truth behind every frame, and four voices to drive it with."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import signal
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from models.records import DemoTruth, Landmarks, store_path
from models.storage import FrameStore
from tasks.media import FPS, write_video, write_wav
from tasks.params import Params
from tasks.progress import Progress
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from models.demo.animation import Animation
    from models.demo.render import Actor
    from models.demo.speech import Speech

SPEAKER, TEXT = "speakers/demo", ("en-male", "en-male-more")
DRIVES = {"de_f": "de-female", "de_m": "de-male", "zh_f": "zh-female", "zh_m": "zh-male"}
BATCH = 5  # frames that a process draws at a time
CRF = 12  # of the video: no visible loss


class DemoParams(Params):
    """How much of the demo speaker is made."""

    seconds: float = Field(20.0, ge=0.2, le=600)  # of video; the text lasts a minute and is repeated beyond it
    drive_seconds: float = Field(6.4, ge=0.2, le=60)  # of each drive
    size: int = Field(256, ge=32, le=1024)  # pixels a side
    seed: int = Field(7, ge=0)  # of head motion, gaze and blinks


STAGE = Stage(name="demo", per=(), params=DemoParams, raw=(SPEAKER, *(f"drives/{drive}" for drive in DRIVES)))


def run(context: Context[DemoParams]) -> None:
    """Make the speaker's raw folder (video, truth, phonemes) and the four drives with their talker's landmarks.

    Raises:
        MissingAssetError: the package with the voices is not installed.
    """
    from tasks.kernels import watch

    watch()
    from models.demo.animation import animate
    from models.demo.render import Actor
    from models.demo.speech import Speech

    params = context.params
    spoken = _spoken([*TEXT, *DRIVES.values()])
    actor = Actor("male", params.size)
    for drive, script in DRIVES.items():
        voice, folder = fitted(spoken[script], params.drive_seconds), context.raw[f"drives/{drive}"]
        write_wav(folder / "speech.wav", voice.samples, voice.sample_rate)
        _save_talker(folder / "truth", actor, animate(voice, params.drive_seconds, FPS, params.seed))
    seconds = round(params.seconds * FPS) / FPS
    speech = fitted(reduce(Speech.followed_by, (spoken[script] for script in TEXT)), seconds)
    animation = animate(speech, seconds, FPS, params.seed)
    folder = context.raw[SPEAKER]
    labels: list[np.ndarray] = []
    progress = Progress("demo", len(animation))

    def pictures() -> Iterator[np.ndarray]:
        for picture, label in _drawn(actor, animation, context.threads):
            labels.append(label)
            progress.update()
            yield picture

    metadata = {"basis": "synthetic", "speaker": "demo", "made_with": "gausstalk"}
    write_video(folder / "video.mp4", pictures(), FPS, speech.samples, speech.sample_rate, "", metadata, CRF)
    progress.finish()
    phonemes = [[round(p.start_s, 4), round(p.end_s, 4), p.symbol] for p in speech.phonemes]
    (folder / "phonemes.json").write_text(json.dumps(phonemes, ensure_ascii=False) + "\n", encoding="utf-8")
    _save_truth(folder / "truth", actor, animation, labels, phonemes)


def _spoken(scripts: list[str]) -> dict[str, Speech]:
    """Return every script spoken, each in a process of its own: the engine keeps state from one text to the next."""
    with multiprocessing.get_context("forkserver").Pool(1, maxtasksperchild=1) as pool:
        return dict(zip(scripts, pool.map(_speak, scripts, chunksize=1), strict=True))


def _speak(script: str) -> Speech:
    from models.demo.scripts import SCRIPTS

    return SCRIPTS[script].speak()


def fitted(speech: Speech, seconds: float) -> Speech:
    """Return speech that lasts `seconds`: repeated as often as needed and cut off at the end."""
    count = round(seconds * speech.sample_rate)
    whole = speech
    while len(whole.samples) < count:
        whole = whole.followed_by(speech)
    heard = (phoneme for phoneme in whole.phonemes if phoneme.start_s < seconds)
    phonemes = [dataclasses.replace(phoneme, end_s=min(phoneme.end_s, seconds)) for phoneme in heard]
    return dataclasses.replace(whole, samples=whole.samples[:count], phonemes=phonemes)


def _drawn(actor: Actor, animation: Animation, processes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield picture and labels of every frame in order, drawn by several processes."""
    parts = [range(t, min(t + BATCH, len(animation))) for t in range(0, len(animation), BATCH)]
    # Not forked from here: a fork inherits the locks of whatever threads this process has, and can wait for ever.
    with multiprocessing.get_context("forkserver").Pool(min(processes, len(parts)), _enter, (actor, animation)) as pool:
        for pictures, labels in pool.imap(_draw, parts):
            yield from zip(pictures, labels, strict=True)


_studio: tuple[Actor, Animation]


def _enter(actor: Actor, animation: Animation) -> None:
    """Prepare a drawing process; the parent decides when it ends."""
    import cv2

    global _studio
    _studio = (actor, animation)
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _draw(frames: range) -> tuple[np.ndarray, np.ndarray]:
    actor, animation = _studio
    drawn = actor.render(animation, frames)
    return drawn.rgb, drawn.labels


def _save_talker(folder: Path, actor: Actor, animation: Animation) -> None:
    """Write the landmarks of the demo speaker saying a drive, whom no picture shows, to hold heads against."""
    folder.mkdir(parents=True)
    pixels, present = actor.landmarks(animation, range(len(animation)))[1], actor.rig.present
    nothing = np.empty((len(animation), 0), np.float32)
    Landmarks("truth", pixels, present, np.ones(len(animation), bool), nothing).save(folder)


def _save_truth(
    folder: Path, actor: Actor, animation: Animation, labels: list[np.ndarray], phonemes: list[list[float | str]]
) -> None:
    from models.demo.animation import COEFFICIENTS

    folder.mkdir(parents=True)
    points, pixels = actor.landmarks(animation, range(len(animation)))
    units = animation.action_units()
    DemoTruth(
        width=actor.size,
        height=actor.size,
        labels=FrameStore.create(store_path(folder, "labels"), labels, labels[0].shape),
        intrinsics=actor.intrinsics.astype(np.float32),
        world_to_camera=actor.world_to_camera(animation).astype(np.float32),
        expression=animation.coefficients.astype(np.float32),
        landmarks_px=pixels,
        landmarks_m=points,
        present=actor.rig.present,
        action_units=np.stack(list(units.values()), axis=1).astype(np.float32),
        gaze=animation.gaze_numbers(),
        expression_names=list(COEFFICIENTS),
        action_unit_names=list(units),
        phonemes=phonemes,
    ).save(folder)


if __name__ == "__main__":
    main(STAGE, run)
