"""Small videos whose pictures carry their own number, made for tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLOCK = Fraction(1, 90000)
BITS = 8


def stamped(number: int, width: int = 64, height: int = 64) -> np.ndarray:
    """A grey picture with `number` as eight bright or dark columns in its upper half, moving texture below."""
    image = np.full((height, width, 3), 90, np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        image[: height // 2, left:right] = 235 if number >> bit & 1 else 20
    image[height * 3 // 4 :, (number * 3) % width :] = 140
    return image


def read_stamp(image: np.ndarray) -> int:
    """The number that `stamped` drew."""
    height, width = image.shape[:2]
    row = image[height // 8 : height * 3 // 8].mean((0, 2))
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / BITS)] > 128)


def clicks(seconds: float, rate: int, at: Sequence[float]) -> np.ndarray:
    """Quiet noise with a loud short click at each instant, int16."""
    sound = np.random.default_rng(0).normal(0, 60, round(seconds * rate))
    for second in at:
        first = round(second * rate)
        sound[first : first + max(2, rate // 2000)] = 24000
    return sound.clip(-32768, 32767).astype(np.int16)


def make_clip(
    path: Path,
    seconds: float = 3.0,
    rate: float = 25.0,
    size: tuple[int, int] = (64, 64),
    times: Sequence[float] | None = None,
    start: float = 0.0,
    sound: np.ndarray | None = None,
    sound_rate: int = 48000,
    sound_start: float = 0.0,
    codec: str = "mpeg4",
    sound_codec: str = "aac",
    pictures: Sequence[np.ndarray] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a clip; picture k is `stamped(k)` at `start + times[k]` seconds (times: k / rate; sound: quiet noise)."""
    times = times if times is not None else [k / rate for k in range(round(seconds * rate))]
    sound = clicks(seconds, sound_rate, []) if sound is None else sound
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        exact = path.suffix in (".avi", ".mpg") or codec == "mpeg4"  # they know only a constant rate
        video.codec_context.time_base = 1 / Fraction(rate).limit_denominator(1001) if exact else CLOCK
        video.bit_rate = 1_000_000
        voice = container.add_stream(sound_codec, rate=sound_rate, layout="mono") if len(sound) else None
        for k, time in enumerate(times):
            image = pictures[k] if pictures is not None else stamped(k, *size)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            base = video.codec_context.time_base
            frame.pts, frame.time_base = round((start + time) / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if voice is not None:
            for first in range(0, len(sound), 1024):
                block = av.AudioFrame.from_ndarray(sound[None, first : first + 1024], format="s16", layout="mono")
                block.sample_rate, block.time_base = sound_rate, Fraction(1, sound_rate)
                block.pts = first + round(sound_start * sound_rate)
                container.mux(voice.encode(block))
            container.mux(voice.encode(None))
    return path


def turn_upright_flag(path: Path) -> None:
    """Mark an mp4 as held sideways: a player has to turn its pictures a quarter clockwise."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    values = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]
    data[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(bytes(data))


def lose_first_key_frame(path: Path) -> Path:
    """Put a grey key frame in the place of the first one, as some recorders do: no decoder complains about it."""
    grey = path.with_name("grey" + path.suffix)
    with av.open(str(path)) as source:
        size = source.streams.video[0].width, source.streams.video[0].height
    make_clip(grey, 0.2, size=size, pictures=[np.full((size[1], size[0], 3), 128, np.uint8)] * 5)
    with av.open(str(grey)) as lost:
        key = next(lost.demux(video=0))
    grey.unlink()
    whole = path.with_name("whole" + path.suffix)
    path.rename(whole)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        streams = [target.add_stream_from_template(stream) for stream in source.streams]
        first = True
        for packet in source.demux():
            if packet.dts is None:
                continue
            into = streams[packet.stream_index]
            if into.type == "video" and first:
                key.pts, key.dts, key.time_base, packet, first = packet.pts, packet.dts, packet.time_base, key, False
            packet.stream = into
            target.mux(packet)
    whole.unlink()
    return path


def first_seconds(source: Path, target: Path, seconds: float) -> Path:
    """Copy the beginning of a recording, packet by packet."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as part:
        chosen = (*whole.streams.video[:1], *whole.streams.audio[:1])
        copies = {stream: part.add_stream_from_template(stream) for stream in chosen}
        for packet in whole.demux(chosen):
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = copies[packet.stream]
                part.mux(packet)
    return target
