"""Frames that another system has rendered: a folder of numbered PNGs or a video, and whether they fit a clip."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Literal

import numpy as np

from models.errors import InputError
from models.records import TEST, Clip
from tasks.assets import sha256_of
from tasks.media import FPS, FrameReader, probe

Part = Literal["test", "clip"]
LOSSLESS_CODECS = {"ffv1", "huffyuv", "ffvhuff", "utvideo", "png", "rawvideo", "qtrle", "zlib"}
NUMBER = re.compile(r"(\d+)\.png", re.IGNORECASE)
TO_PNG = "-start_number 0 out/%06d.png"


@dataclass(frozen=True)
class Foreign:
    """Rendered frames on disk: PNGs in order, or one video."""

    path: Path
    files: tuple[Path, ...]
    width: int
    height: int
    count: int
    how: str  # png, or codec and pixel format
    lossless: bool

    @property
    def command(self) -> str:
        """The beginning of an FFmpeg command that reads these frames."""
        if self.how != "png":
            return f"mkdir -p out && ffmpeg -i {quote(str(self.path))}"
        found = NUMBER.search(self.files[0].name)
        digits = found.group(1) if found else ""
        before = self.files[0].name.removesuffix(f"{digits}{self.files[0].suffix}")
        padded = f"%0{len(digits)}d" if len({len(file.name) for file in self.files}) == 1 else "%d"
        pattern = self.path / f"{before}{padded}{self.files[0].suffix}"
        return f"mkdir -p out && ffmpeg -framerate {FPS:g} -start_number {int(digits)} -i {quote(str(pattern))}"

    @property
    def then(self) -> str:
        """What to do with the frames that such a command writes."""
        return f"then import out{'' if self.lossless else ' with --lossy'}"

    def digest(self) -> str:
        """Return the sha256 of the video, or of the sha256 of every picture in order."""
        if self.how != "png":
            return sha256_of(self.path)
        return hashlib.sha256("".join(sha256_of(file) for file in self.files).encode()).hexdigest()

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames, `[H, W, 3]` uint8 RGB.

        Raises:
            InputError: one cannot be decoded.
        """
        if self.how != "png":
            yield from FrameReader(self.path)
        for file in self.files:
            yield _decoded(file)


def look_at(path: Path, lossy: bool = False) -> Foreign:
    """Return what lies at `path`; every frame has been decoded once.

    Args:
        path: a folder of numbered PNGs, or a video.
        lossy: they were compressed before, whatever they lie in now.

    Raises:
        InputError: it is neither a folder of numbered PNGs of one size nor a video at 25 frames a second.
    """
    found = _folder(path) if path.is_dir() else _video(path)
    return replace(found, lossless=found.lossless and not lossy)


def _folder(path: Path) -> Foreign:
    pictures = [file for file in path.iterdir() if not file.name.startswith(".")]
    others = sorted(file.name for file in pictures if not (file.is_file() and NUMBER.search(file.name)))
    if others or not pictures:
        what = f"{others[0]!r} is in it" if others else "it is empty"
        raise InputError(
            f"{path}: no folder of numbered PNGs", what, f"put nothing but the frames there: ffmpeg -i VIDEO {TO_PNG}"
        )
    numbered = sorted((int(NUMBER.search(file.name).group(1)), file) for file in pictures)  # type: ignore[union-attr]
    numbers, files = [number for number, _ in numbered], tuple(file for _, file in numbered)
    for before, number in zip(numbers, numbers[1:], strict=False):
        if number != before + 1:
            what = f"two frames have the number {number}" if number == before else f"frame {before + 1} is missing"
            raise InputError(f"{path}: {what}", "frames are compared one by one, in their order", "render it again")
    height, width = _decoded(files[0]).shape[:2]
    for file in files:
        size = _decoded(file).shape[1::-1]
        if size != (width, height):
            what = f"{size[0]} x {size[1]}, the first one is {width} x {height}"
            raise InputError(f"{file}: {what}", "all frames of a folder have one size", "render it again")
    return Foreign(path, files, width, height, len(files), "png", lossless=True)


def _decoded(file: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as picture:
            mode, array = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file}: no PNG that can be read", str(error), "render or copy it again") from error
    if mode != "RGB":
        raise InputError(
            f"{file}: its pixels are {mode}",
            "frames are compared as 8-bit RGB",
            f"ffmpeg -i {quote(str(file))} -pix_fmt rgb24 OUT.png",
        )
    return array


def _video(path: Path) -> Foreign:
    info = probe(path)
    how = ", ".join(part for part in (info.video_codec, info.pixel_format) if part)
    if abs(info.frame_rate - FPS) > 0.01:
        raise InputError(
            f"{path}: {info.frame_rate:g} frames a second",
            f"the clip has {FPS:g}, and frames are compared one by one",
            f"render at {FPS:g} a second; if it cannot: mkdir -p out && "
            f"ffmpeg -i {quote(str(path))} -vf fps={FPS:g} {TO_PNG}",
        )
    reader = FrameReader(path)
    shape = next(iter(reader)).shape
    count = sum(1 for _ in reader)
    # Without its colours at full size it is the lossless copy of something lossy.
    rgb = info.pixel_format.startswith(("rgb", "bgr", "gbr", "0rgb", "0bgr", "argb", "abgr"))
    return Foreign(path, (), shape[1], shape[0], count, how, lossless=info.video_codec in LOSSLESS_CODECS and rgb)


def part_of(foreign: Foreign, clip: Clip, raw: Path) -> Part:
    """Return which part of the clip the frames are.

    Args:
        foreign: the frames.
        clip: of the speaker.
        raw: the folder of the speaker's recordings, which messages name.

    Raises:
        InputError: they have another size, or are neither as many as the test part nor as the clip; with the command
            that mends it, where one can.
    """
    size, test = clip.frames.shape[1], clip.indices(TEST)
    if (foreign.width, foreign.height) != (size, size):
        raise InputError(
            f"{foreign.path}: frames of {foreign.width} x {foreign.height}",
            f"{clip.speaker} is measured at {size} x {size}, and nothing is scaled in secret",
            f"{_to_size(foreign, clip)}, {foreign.then}",
        )
    if foreign.count == len(clip):
        return "clip"
    if foreign.count == len(test):
        return "test"
    first, last = int(test[0]), int(test[-1])
    why = (
        f"{clip.speaker}'s clip has {len(clip)} frames at {clip.fps:g} a second, of which the test part is the last "
        f"{len(test)}: frame {first} to {last}, {first / clip.fps:.2f} to {(last + 1) / clip.fps:.2f} s"
    )
    if foreign.count > len(clip):
        fix = f"if they begin with the clip: {foreign.command} -frames:v {len(clip)} {TO_PNG}, {foreign.then}"
    else:
        fix = f"render the whole test part; its sound: {_sound_of(clip, first, len(test), raw)}"
    raise InputError(f"{foreign.path}: {foreign.count} frames", why, fix)


def _to_size(foreign: Foreign, clip: Clip) -> str:
    size = clip.frames.shape[1]
    scale = f"scale={size}:{size}:flags=area"
    for source in clip.sources:
        if list(source.get("size", ())) == [foreign.width, foreign.height] and source.get("crop"):
            left, top, side = source["crop"]
            return f"cut out the clip's square: {foreign.command} -vf crop={side}:{side}:{left}:{top},{scale} {TO_PNG}"
    if foreign.width == foreign.height:
        return f"{foreign.command} -vf {scale} {TO_PNG}"
    squares = [f"{s['crop'][2]} pixels at {s['crop'][0]}, {s['crop'][1]} of {s['file']}" for s in clip.sources[:1]]
    where = f" (of the recording: {squares[0]})" if squares else ""
    return f"cut out the square of the clip{where}: {foreign.command} -vf crop=SIDE:SIDE:LEFT:TOP,{scale} {TO_PNG}"


def _sound_of(clip: Clip, first: int, count: int, raw: Path) -> str:
    source = next((s for s in reversed(clip.sources) if s.get("first_frame", 0) <= first), None)
    file, begins = (source["file"], source["first_frame"]) if source else ("RECORDING", 0)
    start, length = (first - begins) / clip.fps, count / clip.fps
    return f"ffmpeg -ss {start:.2f} -t {length:.2f} -i {raw / file} -ac 1 -ar {clip.sample_rate} test.wav"
