"""Writing of video and sound; use it through `tasks.media`."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

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
) -> int:
    """Write an mp4 (H.264 yuv420p, AAC) that appears at `path` only when it is whole; return the number of pictures.

    Args:
        path: of the mp4.
        frames: pictures `[H, W, 3]` uint8 RGB, streamed; an odd size gets its last row or column twice.
        fps: pictures a second.
        sound: int16 `[S]` mono, cut to the length of the pictures, or None.
        sample_rate: of the sound.
        mark: what every picture carries visibly (`people.mark_of`), may be empty.
        metadata: written into the container, the mark as comment and copyright as well.
        crf: of x264, lower is better.

    Raises:
        UsageError: there are no pictures, or one is not `[H, W, 3]` uint8 of the first one's size.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with av.open(str(part), "w", format="mp4", options={"movflags": "use_metadata_tags+faststart"}) as container:
            container.metadata.update(metadata)
            if mark:
                container.metadata.update({"comment": mark, "copyright": mark})
            count = _encode(
                container, path, frames, Fraction(fps).limit_denominator(1001), sound, sample_rate, mark, crf
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return count


def _encode(
    container: Any,
    path: Path,
    frames: Iterable[np.ndarray],
    rate: Fraction,
    sound: np.ndarray | None,
    sample_rate: int,
    mark: str,
    crf: int,
) -> int:
    # Two threads of x264, whatever the machine has: its choices, and so the bytes, depend on the number.
    video = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": "fast", "threads": "2"})
    voice = None if sound is None else container.add_stream("aac", rate=sample_rate, layout="mono")
    count, written, shape = 0, 0, None
    for image in frames:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or shape not in (None, image.shape):
            raise UsageError(f"{path}: picture {count} is {image.dtype} {image.shape}, the first one was {shape}")
        if shape is None:
            shape = image.shape
            video.height, video.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
            video.pix_fmt = "yuv420p"
            # Players guess the colours of what is not tagged, small pictures otherwise than large ones.
            video.codec_context.colorspace = video.codec_context.color_primaries = ITU_709
            video.codec_context.color_trc, video.codec_context.color_range = ITU_709, LIMITED_RANGE
        even = np.pad(draw_mark(image, mark), ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), "edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=ITU_709, dst_color_range=LIMITED_RANGE)
        frame.pts, frame.time_base = count, 1 / rate
        container.mux(video.encode(frame))
        count += 1
        if voice is not None and sound is not None:  # sound follows the pictures, so that the muxer holds little
            until = min(len(sound), int(count / rate * sample_rate))
            container.mux(_encode_sound(voice, sound, written, until, sample_rate))
            written = until
    if not count:
        raise UsageError(f"{path}: no pictures to write")
    container.mux(video.encode(None))
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
