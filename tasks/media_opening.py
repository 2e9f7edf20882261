"""Opening recordings of any kind: known containers from disk only, bounded sizes, typed errors; see `tasks.media`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import numpy as np

from models.errors import InputError

FPS = 25.0
MAX_PIXELS = 4096 * 4096  # of one picture; an 8k picture is refused
MAX_SECONDS = 3600.0
# Playlists and the like would let a file name other files or hosts; raw streams carry no clock.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,wav,w64,flac,mp3,aac,aiff,au,caf,amr,dv,mxf"
)
# What PyAV raises at damaged files; the IndexError comes from streams that appear in the middle of one.
FAULTS = (av.error.FFmpegError, ValueError, IndexError, MemoryError)
EXACT = 0x4 | 0x2000 | 0x40000  # swscale: bicubic, full chroma, exact rounding
UNSPECIFIED_COLOURS, ITU_709 = 2, 1  # FFmpeg's AVColorSpace


@dataclass(frozen=True)
class MediaInfo:
    """What the header of a file says. Width and height are those of the upright picture with square pixels."""

    path: Path
    width: int
    height: int
    frame_rate: float
    seconds: float
    video_codec: str
    has_sound: bool
    sound_rate: int = 0
    sound_channels: int = 0
    sound_codec: str = ""
    pixel_format: str = ""  # as FFmpeg calls it


def probe(path: Path) -> MediaInfo:
    """Return what the header of a video says.

    Raises:
        InputError: the file is missing, empty, no video, or its pictures are too large.
    """
    with opened(path) as container:
        return info_of(container, path)


def opened(path: Path) -> av.container.InputContainer:
    """Open a file for reading, from disk only and as one of the known containers."""
    if not path.is_file():
        what = "it is a folder, not a recording" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {what}", "a video or sound file is read from there", "check the path and the name")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty", "0 bytes", "copy the recording again")
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        return av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except (*FAULTS, OSError) as error:
        raise InputError(
            f"{path}: not a video or sound file that can be read",
            f"it is damaged, was not copied whole, or is something else ({words_of(error)})",
            "copy or export it again, for example as mp4 (H.264, AAC) or wav",
        ) from error


def words_of(error: BaseException) -> str:
    """Return what a decoder says, without its number and the file, which the message names already."""
    return str(getattr(error, "strerror", None) or error)


def info_of(container: Any, path: Path) -> MediaInfo:
    """Return what the header of an open video says; see `probe`."""
    if not container.streams.video:
        raise InputError(f"{path}: there is no picture in it", "the file has sound only", "use a video")
    video = container.streams.video[0]
    context = video.codec_context
    if context is None:
        raise InputError(f"{path}: the codec of the picture is not known here", "", "export the video as mp4 (H.264)")
    if context.width < 16 or context.height < 16 or context.width * context.height > MAX_PIXELS:
        raise InputError(
            f"{path}: pictures of {context.width} x {context.height}",
            f"between 16 pixels a side and {MAX_PIXELS // 2**20} megapixels can be used",
            "scale the video to 1080p",
        )
    turned = _first_rotation(container, video, path) % 180 == 90
    width, height = _square_pixel_size(context.width, context.height, video.sample_aspect_ratio)
    rate = float(video.average_rate or video.guessed_rate or FPS)
    sound = container.streams.audio[0] if container.streams.audio else None
    return MediaInfo(
        path,
        height if turned else width,
        width if turned else height,
        rate if 0.1 <= rate <= 1000 else FPS,
        max(0.0, end_of(container, video) - float((video.start_time or 0) * video.time_base))
        or _seconds_by_packets(container, video),
        context.name,
        sound is not None,
        (sound.codec_context.sample_rate or 0) if sound and sound.codec_context else 0,
        (sound.codec_context.channels or 0) if sound and sound.codec_context else 0,
        sound.codec_context.name if sound and sound.codec_context else "",
        context.pix_fmt or "",
    )


def _first_rotation(container: Any, stream: Any, path: Path) -> int:
    """Return the rotation in degrees of the first picture; the container is rewound."""
    try:
        frame = next((frame for frame in container.decode(stream)), None)
        _rewind(container)
    except FAULTS as error:
        raise InputError(
            f"{path}: its pictures cannot be decoded", words_of(error), "export the video again"
        ) from error
    if frame is None:
        raise InputError(f"{path}: no picture in it can be decoded", "", "copy or export the video again")
    return int(frame.rotation)


def _rewind(container: Any) -> None:
    container.seek(0 if container.start_time is None else container.start_time)


def _seconds_by_packets(container: Any, stream: Any) -> float:
    """Return how long a stream is whose header does not say, as of a recording that was written live."""
    ends = [0]
    with suppress(*FAULTS):  # whoever reads on will say so
        ends += [packet.pts + (packet.duration or 0) for packet in container.demux(stream) if packet.pts is not None]
        _rewind(container)
    return max(0.0, float((max(ends) - (stream.start_time or 0)) * stream.time_base))


def _square_pixel_size(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    if not aspect or not 0.25 < aspect < 4 or abs(float(aspect) - 1) < 0.02:
        return width, height
    return max(16, round(width * float(aspect))), height


def picture_of(frame: av.VideoFrame, info: MediaInfo, exact: bool) -> np.ndarray:
    """Return a decoded picture upright, with square pixels, as `[H, W, 3]` uint8 RGB."""
    quarter_turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90 has it
    width, height = (info.height, info.width) if quarter_turns % 2 else (info.width, info.height)
    # FFmpeg takes pictures without colour tags for ITU-R 601, which from 720 lines on is hardly ever true.
    untagged = frame.colorspace == UNSPECIFIED_COLOURS and frame.height >= 720
    colours = ITU_709 if untagged else None
    how = EXACT if exact else None
    image = frame.reformat(width, height, "rgb24", src_colorspace=colours, interpolation=how).to_ndarray()
    return np.ascontiguousarray(np.rot90(image, quarter_turns))


def stamp_of(frame: av.VideoFrame) -> float | None:
    """Return the instant of a picture on the file's clock, None if the file does not say."""
    return None if frame.pts is None or frame.time_base is None else float(frame.pts * frame.time_base)


def end_of(container: Any, stream: Any) -> float:
    """Return the instant on the file's clock at which the header says that the stream ends."""
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)  # its duration is corrected to what is there
    if stream.duration is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return (container.duration or 0) / 1e6  # some containers count it from 0, others from their start: the lower bound


def too_long(path: Path, seconds: float, limit: float) -> InputError:
    """Return the error for a recording that lasts longer than what is read."""
    return InputError(
        f"{path}: it lasts {seconds:.0f} s",
        f"at most {limit:.0f} s are read; a few minutes are enough",
        "cut out the best part; of a speaker's own footage, ingest.max_seconds may be raised",
    )
