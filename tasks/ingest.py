"""Footage of a speaker as one clip: 25 square frames a second and 16 kHz sound, cut list, split and fitness."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from models.errors import InputError
from models.records import TEST, VALIDATION, Clip, store_path
from models.storage import FrameStore
from tasks.assets import find_asset, sha256_of
from tasks.fitness import PictureStatistics, fitness
from tasks.media import FPS, SAMPLE_RATE, FrameReader, MediaInfo, probe, read_sound
from tasks.params import Params
from tasks.people import Speaker, mark_of
from tasks.places import Places
from tasks.progress import Progress
from tasks.sources import SQUARE_MARGIN, Crop, centre_crop, is_square, source_path, square_about_face
from tasks.stage import Context, Stage, main
from tasks.waveform import framed_waveforms
from tasks.words import counted

log = logging.getLogger("gausstalk")


class IngestParams(Params):
    """What is taken from the footage."""

    size: int = Field(256, ge=32, le=1024)  # pixels a side of the clip
    face_margin: float = Field(SQUARE_MARGIN, gt=1)  # side of the crop over the face's height; squares are not cropped
    test_share: float = Field(0.15, gt=0, lt=0.5)  # the end of the clip, never trained on
    validation_share: float = Field(0.04, gt=0, lt=0.3)  # just before it
    min_seconds: float = Field(2.0, ge=0.2)  # of all sources together
    max_seconds: float = Field(3600.0, gt=0)  # of one source
    use_damaged: bool = False  # keep what comes before the place where a file breaks


STAGE = Stage(name="ingest", per=("speaker",), params=IngestParams, gives=Clip, preview=True)


def run(context: Context[IngestParams]) -> Clip:
    """Read all sources of a speaker.

    Raises:
        ConsentError: there is no valid basis for using this person's likeness.
        InputError: a source is missing, damaged, without sound or too short; the message says which and why.
    """
    speaker, params, size = context.speaker(), context.params, context.params.size
    name = str(context.keys.speaker)
    infos = [probe(source_path(context.places, name, file)) for file in speaker.sources]
    for info in infos:
        if not info.has_sound:
            read_sound(info.path)  # raises, and says why sound is needed
    crops, notes = crops_of(infos, speaker, context.places, params.face_margin)
    statistics, sources, sounds, intact = PictureStatistics(), [], [], []
    progress = Progress(f"ingest {name}", max(1, round(sum(info.seconds for info in infos) * FPS)))

    def frames() -> Iterator[np.ndarray]:
        for file, info, crop, note in zip(speaker.sources, infos, crops, notes, strict=True):
            reader = FrameReader(info.path, FPS, params.use_damaged, params.max_seconds, context.threads)
            first = len(statistics.brightness)
            for image in reader:
                frame = crop.cut(image, size)
                statistics.add(frame)
                progress.update()
                yield frame
            if reader.source_count < 2:
                raise InputError(f"{info.path}: only one picture", "a head is learnt from motion", "use a video")
            samples = round(reader.count / FPS * SAMPLE_RATE)
            sounds.append(read_sound(info.path, SAMPLE_RATE, reader.origin_s, samples, params.max_seconds))
            intact.extend(reader.intact)
            said = [*note, *([reader.note] if reader.note else []), *sorted(reader.remarks), *_lost(reader.intact)]
            sources.append({"file": file, "sha256": sha256_of(info.path), **_source(info, crop, first, reader, said)})

    store = FrameStore.create(store_path(context.output, "frames"), frames(), (size, size, 3))
    progress.finish()
    if len(store) < params.min_seconds * FPS:
        raise InputError(
            f"{name}: {len(store) / FPS:.2f} s of video",
            f"at least {params.min_seconds:g} s are needed, a minute or more is good",
            "use a longer recording or add more sources to the speaker's record",
        )
    sound = _joined(sounds, len(store))
    cuts = _cuts(store, sources)
    clip = Clip(
        speaker=name,
        basis=speaker.basis,
        fps=FPS,
        sample_rate=SAMPLE_RATE,
        frames=store,
        sound=sound,
        cuts=cuts,
        split=split(len(store), params.test_share, params.validation_share),
        intact=np.array(intact, bool),
        sources=sources,
        fitness=fitness(statistics, sound, SAMPLE_RATE, FPS, cuts, sources, size),
    )
    for verdict in clip.fitness["verdicts"]:
        log.warning("ingest %s: %s", name, verdict)
    _preview(clip, context.preview, mark_of(speaker.basis))
    return clip


def split(count: int, test_share: float, validation_share: float) -> np.ndarray:
    """Return `[count]` int8: training, then validation, then test, each in one piece and none of them empty."""
    test = max(1, round(count * test_share))
    validation = max(1, round(count * validation_share))
    parts = np.zeros(count, np.int8)
    parts[count - test - validation : count - test] = VALIDATION
    parts[count - test :] = TEST
    return parts


def crops_of(
    infos: list[MediaInfo], speaker: Speaker, places: Places, margin: float
) -> tuple[list[Crop], list[list[str]]]:
    """Return the square of every source, and what should be said about it.

    Sources with pictures of one size are taken to be of one camera and get the same square, so that the room behind
    the head stays where it is.
    """
    crops: dict[tuple[int, int], Crop] = {}
    notes: dict[tuple[int, int], list[str]] = {}
    for info in infos:
        shape = (info.width, info.height)
        if shape in crops:
            continue
        crops[shape], notes[shape] = centre_crop(*shape), []
        if is_square(*shape) or speaker.landmarks == "truth":
            continue
        alike = [(other.path, other.seconds) for other in infos if (other.width, other.height) == shape]
        if square := square_about_face(alike, shape, find_asset(places, "face_landmarker"), margin):
            crops[shape] = square
        else:
            notes[shape] = ["no face was found in it; its middle was used"]
    return [crops[info.width, info.height] for info in infos], [notes[info.width, info.height] for info in infos]


def _lost(intact: list[bool]) -> list[str]:
    """Say how many pictures of a source show nothing, if any."""
    if all(intact):
        return []
    count = counted(intact.count(False), "picture")
    return [f"blank or damaged: {count}, the first at {intact.index(False) / FPS:.1f} s"]


def _source(info: MediaInfo, crop: Crop, first: int, reader: FrameReader, notes: list[str]) -> dict[str, Any]:
    return {
        "first_frame": first,
        "frames": reader.count,
        "size": [info.width, info.height],
        "frame_rate": round(info.frame_rate, 3),
        "codec": info.video_codec,
        "sound": f"{info.sound_codec}, {info.sound_rate} Hz, {info.sound_channels} channels",
        "crop": [crop.left, crop.top, crop.side],
        "damaged": bool(reader.note),
        "notes": notes,
    }


def _joined(sounds: list[np.ndarray], frames: int) -> np.ndarray:
    """Return the sounds behind each other, exactly as long as the pictures."""
    sound = np.concatenate(sounds)
    wanted = round(frames / FPS * SAMPLE_RATE)
    return np.pad(sound, (0, max(0, wanted - len(sound))))[:wanted]


def _cuts(store: FrameStore, sources: list[dict[str, Any]]) -> np.ndarray:
    """Return the first frame of every new shot: where a source begins, and where the picture changes at once."""
    from models.heads.flow import find_cuts

    no_landmarks = np.full((len(store), 1, 2), np.nan, np.float32)
    seen = find_cuts(no_landmarks, np.zeros(len(store), bool), store)
    begins = [source["first_frame"] for source in sources[1:]]
    return np.unique(np.concatenate([seen, np.array(begins, np.int32)])).astype(np.int32)


def _preview(clip: Clip, folder: Path, mark: str) -> None:
    from tasks.pictures import save_strip

    indices = np.linspace(0, len(clip) - 1, 8).round().astype(int)
    tiles = framed_waveforms([clip.frames[index] for index in indices], clip.sound)
    captions = [f"{index / clip.fps:.1f} s" for index in indices]
    save_strip(folder / "strip.jpg", tiles, mark, captions)


if __name__ == "__main__":
    main(STAGE, run)
