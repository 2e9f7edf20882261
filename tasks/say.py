"""`gausstalk say`: a trained head says any recording, of any length, into one video with sound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.errors import InputError, UsageError
from models.records import Clip
from models.storage import RECORD_FILE
from tasks.params import load_params
from tasks.people import load_speaker
from tasks.places import Keys, Places, check_name
from tasks.rendering import RenderParams, write_preview

if TYPE_CHECKING:
    from torch import Tensor

SHORTEST_S = 0.2
LONGEST_S = 6 * 3600.0
BLOCK_S, MARGIN_S = 600, 2  # features are computed for so much sound at once, and for a little more around it


def say(
    places: Places, speaker: str, sound_path: Path, output: Path, extractor: str = "logmel", device: str = "cpu"
) -> int:
    """Let a trained head say a recording; return the number of pictures.

    Pictures go into the video as they are drawn, so memory does not grow with the recording, but for its samples
    (115 MB an hour).

    Args:
        places: the project.
        speaker: whose head.
        sound_path: any sound or video file.
        output: the mp4 to write; it appears when it is whole.
        extractor: which speech features the head was trained on.
        device: of torch.

    Raises:
        ConsentError: there is no valid basis for using this person's likeness.
        UsageError: there is no such speaker, or no video can be written there.
        InputError: the head is not trained, or the recording is missing, damaged or too short.
    """
    from tasks.kernels import watch
    from tasks.media import read_sound
    from tasks.progress import Progress
    from tasks.talking_head import Scene, TalkingHead, back_and_forth, speak

    watch()
    check_name(speaker)
    person = load_speaker(places, speaker)
    check_output(output)
    check_trained(places, speaker, extractor)
    head = TalkingHead.load(places, speaker, extractor, device)
    scene = Scene.load(places, speaker, head.config)
    clip = scene.clip
    sound = read_sound(sound_path, clip.sample_rate, max_seconds=LONGEST_S)
    if len(sound) < SHORTEST_S * clip.sample_rate:
        raise InputError(
            f"{sound_path}: {len(sound) / clip.sample_rate:.2f} s of sound",
            "nothing can be said in that time",
            "use a longer recording",
        )
    count = max(1, round(len(sound) / clip.sample_rate * clip.fps))
    progress = Progress(f"{speaker} says {sound_path.name}", count, "pictures")

    def pictures() -> Iterator[np.ndarray]:
        frames = back_and_forth(*scene.longest_shot(), count)
        for windows in _windows(sound, clip, count, extractor, places):
            for picture in speak(head, scene, frames, windows):
                progress.update()
                yield picture

    crf = load_params(places.params, "render", RenderParams).crf
    write_preview(output, pictures(), clip.fps, sound, clip.sample_rate, (speaker, sound_path.name), person, crf=crf)
    progress.finish()
    return count


def check_output(path: Path) -> None:
    """Refuse, before anything is computed, a place where no mp4 can be written.

    Raises:
        UsageError: it is a folder, has another ending, or its folder cannot be made or written into.
    """
    if path.suffix.lower() != ".mp4" or path.is_dir():
        why = "it is a folder" if path.is_dir() else "the video is an mp4, whatever its file is called"
        raise UsageError(
            f"{path}: no name for the video", why, f"-o {path / 'out.mp4' if path.is_dir() else f'{path}.mp4'}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path.parent}: no such folder, and it cannot be made", str(error), "choose another"
        ) from error
    if not os.access(path.parent, os.W_OK):
        raise UsageError(
            f"{path.parent}: nothing can be written there", "it is read-only to you", "choose another folder"
        )


def check_trained(places: Places, speaker: str, extractor: str) -> None:
    """Refuse a head that is not there.

    Raises:
        InputError: it has not been trained, or is being trained anew; the message names those that are there.
    """
    if not (places.record("tg_fuse", Keys(speaker=speaker, extractor=extractor)) / RECORD_FILE).is_file():
        base = places.record("tg_fuse", Keys(speaker=speaker))
        trained = sorted(path.parent.name for path in base.glob(f"*/{RECORD_FILE}"))
        raise InputError(
            f"{speaker} has no trained head for {extractor}",
            f"trained: {', '.join(trained) or 'none'}",
            f"gausstalk run {speaker}" + (f"; or --extractor {trained[0]}" if trained else ""),
        )


def _windows(sound: np.ndarray, clip: Clip, count: int, extractor: str, places: Places) -> Iterator[Iterator[Tensor]]:
    """Yield the audio windows of `count` pictures in blocks: features never exist for all of a long recording."""
    from tasks.speech_features import AudioParams, extract
    from tasks.talking_head import audio_windows

    params = load_params(places.params, "audio", AudioParams)
    block, margin, samples = round(BLOCK_S * clip.fps), round(MARGIN_S * clip.fps), clip.sample_rate / clip.fps
    for first in range(0, count, block):
        end = min(count, first + block)
        low, high = max(0, first - margin), min(count, end + margin)
        piece = sound[round(low * samples) : round(high * samples)]
        features = extract(piece, clip.sample_rate, high - low, extractor, params, places)
        yield islice(audio_windows(features.values), first - low, end - low)
