"""Writing of video and sound; use it through `tasks.media`."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterable
from fractions import Fraction
from glob import escape
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from models.errors import UsageError

SAMPLE_RATE = 16000
ITU_709, LIMITED_RANGE = 1, 1  # FFmpeg's AVColorSpace (primaries and transfer have the same number) and AVColorRange


def draw_mark(image: np.ndarray, mark: str) -> np.ndarray:
    """Return a copy of `image` (`[H, W, 3]` uint8 RGB) with `mark` in a dark strip at its bottom; no mark, no strip."""
    if not mark:
        return image
    strip = _mark_strip(mark, image.shape[1], max(12, image.shape[0] // 16))
    marked = image.copy()
    height = min(len(strip), image.shape[0])
    below = marked[-height:].astype(np.uint16)
    marked[-height:] = np.maximum(below // 4, strip[-height:, :, None])
    return marked


def _mark_strip(mark: str, width: int, height: int) -> np.ndarray:
    """Return the brightness `[height, width]` uint8 of a line of text, as large as fits."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    size = max(7, int(height * 0.78))
    while size > 7 and draw.textlength(mark, font=ImageFont.load_default(size)) > width - 4:
        size -= 1
    draw.text((width / 2, height / 2), mark, fill=255, font=ImageFont.load_default(size), anchor="mm")
    return np.asarray(image)


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    sound: np.ndarray | None,
    sample_rate: int,
    mark: str,
    metadata: dict[str, str],
    crf: int = 16,
    lossless: bool = False,
) -> int:
    """Write a video that appears at `path` only when it is whole; return the number of pictures.

    It is an mp4 with H.264 (yuv420p) and AAC, which everything plays; or, lossless, a Matroska file with FFV1 (RFC
    9043; RGB, so that no colour is converted) and plain samples, which VLC, mpv and FFmpeg play.

    Args:
        path: of the video.
        frames: pictures `[H, W, 3]` uint8 RGB, streamed; for H.264, an odd size gets its last row or column twice.
        fps: pictures a second.
        sound: int16 `[S]` mono, cut to the length of the pictures, or None.
        sample_rate: of the sound.
        mark: what every picture carries visibly (`people.mark_of`), may be empty.
        metadata: written into the container, the mark as comment and copyright as well.
        crf: of x264, lower is better.
        lossless: see above.

    Raises:
        UsageError: there are no pictures, or one is not `[H, W, 3]` uint8 of the first one's size.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    part = _part(path, str(os.getpid()))
    kind, options = ("matroska", {}) if lossless else ("mp4", {"movflags": "use_metadata_tags+faststart"})
    rate = Fraction(fps).limit_denominator(1001)
    try:
        with av.open(str(part.absolute()), "w", format=kind, options=options) as container:
            container.metadata.update(metadata)
            if mark:
                container.metadata.update({"comment": mark, "copyright": mark})
            pictures = _Lossless(container, rate) if lossless else _H264(container, rate, crf)
            codec = "pcm_s16le" if lossless else "aac"
            voice = None if sound is None else container.add_stream(codec, rate=sample_rate, layout="mono")
            count = _encode(container, path, frames, pictures, voice, sound, sample_rate, mark)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _part(path: Path, process: str) -> Path:
    return path.with_name(f".{path.name}.part-{process}")


def _remove_left(path: Path) -> None:
    """Remove what processes that were killed outright have left of this video."""
    begin = _part(path, "").name
    for left in path.parent.glob(f"{escape(begin)}*"):
        process = left.name.removeprefix(begin)
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            left.unlink(missing_ok=True)


class _H264:
    """A stream of pictures that everything plays."""

    def __init__(self, container: Any, rate: Fraction, crf: int) -> None:
        # Two threads of x264, whatever the machine has: its choices, and so the bytes, depend on the number.
        options = {"crf": str(crf), "preset": "fast", "threads": "2"}
        self.rate, self.stream = rate, container.add_stream("libx264", rate=rate, options=options)

    def begin(self, height: int, width: int) -> None:
        self.stream.height, self.stream.width = height + height % 2, width + width % 2
        self.stream.pix_fmt = "yuv420p"
        # Players guess the colours of what is not tagged, small pictures otherwise than large ones.
        context = self.stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = ITU_709
        context.color_range = LIMITED_RANGE

    def frame(self, image: np.ndarray) -> av.VideoFrame:
        even = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), "edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        return frame.reformat(format="yuv420p", dst_colorspace=ITU_709, dst_color_range=LIMITED_RANGE)


class _Lossless:
    """A stream of pictures of which every pixel survives."""

    def __init__(self, container: Any, rate: Fraction) -> None:
        # Every picture by itself, with a checksum for each of its slices.
        options = {"level": "3", "slicecrc": "1", "g": "1"}
        self.rate, self.stream = rate, container.add_stream("ffv1", rate=rate, options=options)

    def begin(self, height: int, width: int) -> None:
        self.stream.height, self.stream.width, self.stream.pix_fmt = height, width, "bgr0"

    def frame(self, image: np.ndarray) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="bgr0")


def _encode(
    container: Any,
    path: Path,
    frames: Iterable[np.ndarray],
    pictures: _H264 | _Lossless,
    voice: Any,
    sound: np.ndarray | None,
    sample_rate: int,
    mark: str,
) -> int:
    count, written, shape = 0, 0, None
    for image in frames:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or shape not in (None, image.shape):
            raise UsageError(f"{path}: picture {count} is {image.dtype} {image.shape}, the first one was {shape}")
        if shape is None:
            shape = image.shape
            pictures.begin(*shape[:2])
        frame = pictures.frame(draw_mark(image, mark))
        frame.pts, frame.time_base = count, 1 / pictures.rate
        container.mux(pictures.stream.encode(frame))
        count += 1
        if voice is not None and sound is not None:  # sound follows the pictures, so that the muxer holds little
            until = min(len(sound), int(count / pictures.rate * sample_rate))
            container.mux(_encode_sound(voice, sound, written, until, sample_rate))
            written = until
    if not count:
        raise UsageError(f"{path}: no pictures to write")
    container.mux(pictures.stream.encode(None))
    if voice is not None:
        container.mux(voice.encode(None))
    return count


def _encode_sound(voice: Any, sound: np.ndarray, begin: int, end: int, sample_rate: int) -> list[Any]:
    if end <= begin:
        return []
    block = np.ascontiguousarray(sound[begin:end], dtype=np.int16)[None]
    frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = sample_rate, begin, Fraction(1, sample_rate)
    packets: list[Any] = voice.encode(frame)
    return packets


def write_wav(path: Path, sound: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Write int16 mono samples `[S]` as a wav file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(sound, dtype="<i2").tobytes())
