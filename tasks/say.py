"""`gausstalk say`: a trained head says recordings of any length, each into a video with sound."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from models.errors import InputError, UsageError
from tasks.methods import Method
from tasks.outputs import check_names, make_folder
from tasks.people import Drive, Speaker
from tasks.places import Places

if TYPE_CHECKING:
    from tasks.acting import Acting
    from tasks.gt_talker import GaussianTalker
    from tasks.progress import Progress
    from tasks.speaking import Head
    from tasks.speech_features import Hearing
    from tasks.talker import Talker

    AnyTalker = Talker | GaussianTalker

SHORTEST_S = 0.2
SILENT = 33  # of 32768, -60 dB: there is no voice where nothing is louder
LONGEST_S = 6 * 3600.0
VIDEO_RATES = (16000, 22050, 24000, 32000, 44100, 48000)  # samples a second of the sound in a video
BLOCK_S, MARGIN_S = 600, 2  # features are computed for so much sound at once, and for a little more around it
AHEAD = 4  # pictures are drawn before they are encoded
STRETCH_S = 10  # the scale of a recording longer than a block is measured on so many stretches as fill one

log = logging.getLogger("gausstalk")


@dataclass(frozen=True)
class Said:
    """What became of one recording."""

    sound: Path
    video: Path
    pictures: int = 0
    error: InputError | None = None


def say(
    talker: AnyTalker,
    sounds: Sequence[Path],
    output: Path,
    acting: Acting | None = None,
    followed: Sequence[Speaker | Drive] = (),
    lossless: bool = False,
    device: str = "cpu",
    places: Places | None = None,
) -> list[Said]:
    """Let a trained head say recordings; one that cannot be used does not stop the others.

    Pictures go into the video as they are drawn, so memory does not grow with the recording, but for its samples
    (up to 460 MB an hour).

    Args:
        talker: whose head.
        sounds: any sound or video files.
        output: the video of the only recording, or the folder for the videos of several; see `videos_of`.
        acting: what the head does besides; None: as in its own clip.
        followed: other people whose motion that takes.
        lossless: every pixel survives, see `tasks.media.write_video`.
        device: of torch.
        places: the project, for the weights of speech features; None: this one.

    Returns:
        What became of each recording.

    Raises:
        UsageError: no video can be written there.
    """
    from tasks.acting import Acting
    from tasks.kernels import watch
    from tasks.progress import Progress
    from tasks.speech_features import Hearing

    watch()
    videos = videos_of(sounds, output, lossless)
    hearing = Hearing.open(talker.extractor, talker.audio, places, device)
    head, acting = talker.head(device), acting or Acting()
    talker.shots(acting)  # what the method cannot do is refused before anything is said
    outcomes = [_looked_at(sound, video, talker) for sound, video in zip(sounds, videos, strict=True)]
    what = sounds[0].name if len(sounds) == 1 else f"{len(sounds)} recordings"
    progress = Progress(f"{talker.name} says {what}", sum(said.pictures for said in outcomes), "pictures")
    people = (talker.person, *head.teachers, *followed)
    for index, said in enumerate(outcomes):
        if said.error is None:
            try:
                _say_one(talker, head, acting, said, people, lossless, hearing, progress)
            except InputError as error:
                outcomes[index] = Said(said.sound, said.video, 0, error)
    if progress.total:
        progress.finish()
    return outcomes


def check_there(sounds: Sequence[Path]) -> None:
    """Refuse recordings none of which is there, before a head is loaded for them.

    Raises:
        InputError: see `tasks.media_opening.opened`.
    """
    from tasks.media_opening import opened

    if not any(sound.is_file() for sound in sounds):
        opened(sounds[0])


def talker_of(places: Places, speaker: str, extractor: str, method: Method) -> AnyTalker:
    """Return a speaker of the project whose head a method has made.

    Raises:
        UsageError: there is no such speaker.
        ConsentError: there is no valid basis for using this person's likeness.
        InputError: the head is not trained.
    """
    from tasks.gt_talker import GaussianTalker
    from tasks.talker import Talker

    talkers: dict[str, type[AnyTalker]] = {"talking_gaussian": Talker, "gaussian_talker": GaussianTalker}
    return talkers[method.name].of(places, speaker, extractor)


def _looked_at(sound: Path, video: Path, talker: AnyTalker) -> Said:
    from tasks.media import warn_if_cut_off

    try:
        heard, rate = _read(sound, talker), talker.scene.sample_rate
        warn_if_cut_off(sound, len(heard) / rate)
        if max(int(heard.max()), -int(heard.min())) < SILENT:
            log.warning("%s: it is silent: the head has nothing to say", sound)
        return Said(sound, video, picture_count(len(heard), talker))
    except InputError as error:
        return Said(sound, video, 0, error)


def _read(path: Path, talker: AnyTalker) -> np.ndarray:
    from tasks.media import read_sound

    rate = talker.scene.sample_rate
    sound = read_sound(path, rate, max_seconds=LONGEST_S)
    if len(sound) < SHORTEST_S * rate:
        said = f"{path}: {len(sound) / rate:.2f} s of sound"
        raise InputError(said, "nothing can be said in that time", "use a longer recording")
    return sound


def _shown(path: Path) -> tuple[np.ndarray, int]:
    """Return the sound that goes into the video, and its rate: a head hears 16 kHz, people hear all that there is."""
    from tasks.media import read_sound, sound_rate

    recorded = sound_rate(path)
    rate = next((rate for rate in VIDEO_RATES if rate >= recorded), VIDEO_RATES[-1])
    return read_sound(path, rate, max_seconds=LONGEST_S), rate


def picture_count(samples: int, talker: AnyTalker) -> int:
    """Return how many pictures go with so many samples of sound."""
    return max(1, round(samples / talker.scene.sample_rate * talker.scene.fps))


def _say_one(
    talker: AnyTalker,
    head: Head[Any, Any],
    acting: Acting,
    said: Said,
    people: Sequence[Speaker | Drive],
    lossless: bool,
    hearing: Hearing,
    progress: Progress,
) -> None:
    from tasks.rendering import write_preview
    from tasks.speaking import speak

    scene, sound = talker.scene, _read(said.sound, talker)
    shown, rate = _shown(said.sound)

    def pictures() -> Iterator[np.ndarray]:
        shots = talker.shots(acting)
        for heard in _heard(sound, said.pictures, talker, head, hearing):
            for picture in speak(head, shots, heard):
                progress.update()
                yield picture

    names = talker.name, said.sound.name
    write_preview(said.video, _ahead(pictures()), scene.fps, shown, rate, names, people, talker.crf, lossless=lossless)


def _ahead(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same pictures: the next ones are drawn by a thread of their own while these are encoded."""
    with ThreadPoolExecutor(1, "drawing") as drawing:
        coming = deque(drawing.submit(next, pictures, None) for _ in range(AHEAD))
        try:
            while (picture := coming.popleft().result()) is not None:
                coming.append(drawing.submit(next, pictures, None))
                yield picture
        finally:
            drawing.shutdown(wait=True, cancel_futures=True)


def videos_of(sounds: Sequence[Path], output: Path, lossless: bool = False) -> list[Path]:
    """Return the video of each recording; refuse, before anything is computed, a place where none can be written.

    Args:
        sounds: the recordings.
        output: for one recording the video's name, .mp4 or, lossless, .mkv. A folder that is there, or a name without
            an ending, is the folder that the videos go to, named as their recordings (if need be with their folders or
            endings).
        lossless: which of the two.

    Raises:
        UsageError: another ending, two recordings of one name, a name that is too long, or a folder that cannot be made
            or written into.
    """
    ending = ".mkv" if lossless else ".mp4"
    check_names(output)
    if output.is_dir() or not output.suffix:
        folder, videos = output, [output / f"{name}{ending}" for name in _names(sounds)]
    elif len(sounds) > 1:
        raise UsageError(
            f"{output}: one name for {len(sounds)} videos", "each recording gets its own", f"-o {quote(output.stem)}"
        )
    else:
        folder, videos = output.parent, [output]
    for sound, video in zip(sounds, videos, strict=True):
        check_names(video)
        if video.suffix.lower() != ending or video.is_dir():
            why = "it is a folder" if video.is_dir() else f"{'lossless' if lossless else 'H.264'} goes into {ending}"
            other = "; or --lossless" if video.suffix.lower() == ".mkv" else ""
            raise UsageError(
                f"{video}: no name for the video", why, f"-o {quote(str(video.with_suffix(ending)))}{other}"
            )
        if videos.count(video) > 1:
            raise UsageError(f"{video}: two recordings are called so", "one would be lost", "say them one by one")
        if video.exists() and video.resolve() == sound.resolve():
            raise UsageError(f"{video}: that is the recording itself", "it would be lost", "choose another name")
    make_folder(folder)
    return videos


def _names(sounds: Sequence[Path]) -> list[str]:
    """Return what recordings are called, with their folders or endings where the names alone would not do."""
    stems = [sound.stem for sound in sounds]
    in_folders = [f"{sound.resolve().parent.name}_{sound.stem}" for sound in sounds]
    with_endings = [f"{sound.stem}_{sound.suffix[1:]}" for sound in sounds]
    return next((names for names in (stems, in_folders, with_endings) if len(set(names)) == len(names)), in_folders)


def _heard(
    sound: np.ndarray, count: int, talker: AnyTalker, head: Head[Any, Any], hearing: Hearing
) -> Iterator[Iterator[Any]]:
    """Yield what a head hears in `count` pictures in blocks: features never exist for all of a long recording."""
    fps, samples = talker.scene.fps, talker.scene.sample_rate / talker.scene.fps
    block, margin = round(BLOCK_S * fps), round(MARGIN_S * fps)
    scale = _scale(sound, talker.scene.sample_rate, hearing)
    for first in range(0, count, block):
        end = min(count, first + block)
        low, high = max(0, first - margin), min(count, end + margin)
        piece = sound[round(low * samples) : round(high * samples) if high < count else None]
        values = hearing.windows(piece, high - low, scale)
        yield islice(head.hear(values), first - low, end - low)


def _scale(sound: np.ndarray, rate: int, hearing: Hearing) -> Any:
    """Measure a recording as a whole, so that all of its blocks are heard alike; a long one on stretches of it."""
    from models.audio import Measured

    if not isinstance(hearing.module, Measured):
        return None
    if len(sound) > BLOCK_S * rate:
        stretch, count = round(STRETCH_S * rate), max(1, round(BLOCK_S / STRETCH_S))
        starts = np.linspace(0, len(sound) - stretch, count).astype(int)
        sound = np.concatenate([sound[start : start + stretch] for start in starts])
    return hearing.module.measure(sound)
