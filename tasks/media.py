"""Reading and writing of video and sound; with the two modules it is made of the only user of PyAV.

A file is untrusted: only known containers are opened, only from disk, sizes and durations are bounded, and whatever
goes wrong inside FFmpeg's libraries leaves here as an `InputError` that names the file and, if it is known, the second.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import numpy as np

from models.errors import InputError
from tasks.intact import Intact
from tasks.media_opening import (
    FAULTS,
    FPS,
    MAX_SECONDS,
    MediaInfo,
    end_of,
    info_of,
    opened,
    picture_of,
    probe,
    stamp_of,
    too_long,
    words_of,
)
from tasks.media_writing import SAMPLE_RATE, draw_mark, write_video, write_wav

__all__ = [
    "FPS",
    "SAMPLE_RATE",
    "FrameReader",
    "MediaInfo",
    "draw_mark",
    "probe",
    "read_frames_near",
    "read_sound",
    "write_video",
    "write_wav",
]

MAX_GAP_S = 2.0  # a picture that stands longer is a fault of the file, not of the speaker
TRUNCATED_S = 0.5  # how much shorter than its header a stream may be
SOUND_GAP_S = 0.05  # sound packets further apart than this are not one recording
COUNTED = ("aiff", "au", "flac", "mov,mp4,m4a,3gp,3g2,mj2")  # that say how many samples there are; others estimate
ENDLESS_BYTES = 2**31 - 2**16  # that a wav promises whose writer could not know its length
HDR_TRANSFERS = (16, 18)  # PQ and HLG in FFmpeg's AVColorTransferCharacteristic
log = logging.getLogger("gausstalk")


class FrameReader:
    """The upright pictures of a video at a constant rate: picture t is the one whose time stamp is nearest to t / fps.

    Time 0 is the first picture, wherever the file's clock starts. After the iteration `count` says how many there
    were, `intact` which of them show something, `origin_s` where time 0 lies on the file's clock, `note` whether
    anything was left out, and `remarks` what is not as it should be with the pictures.

    Args:
        path: any video.
        fps: pictures a second that are wanted.
        use_damaged: stop where a damaged file breaks (`note` says so) instead of raising.
        max_seconds: the longest video that is read.
        threads: of the decoder, 0 for as many as there are cores.
        exact: convert colours without the rounding of FFmpeg's default, which is 1 to 2 levels too dark and blurs
            the colour of lips, but four times as fast.
    """

    def __init__(
        self,
        path: Path,
        fps: float = FPS,
        use_damaged: bool = False,
        max_seconds: float = MAX_SECONDS,
        threads: int = 0,
        exact: bool = True,
    ) -> None:
        self.path, self.fps, self.use_damaged, self.max_seconds = path, fps, use_damaged, max_seconds
        self.threads, self.exact = threads, exact
        self.info = probe(path)
        if self.info.seconds > max_seconds:
            raise too_long(path, self.info.seconds, max_seconds)
        self.count, self.source_count, self.origin_s, self.note = 0, 0, 0.0, ""
        self._packets_end_s = 0.0
        self.intact: list[bool] = []
        self.steps: list[float] = []  # seconds from each picture of the file to the next
        self.remarks: set[str] = set()

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield pictures `[H, W, 3]` uint8 RGB; one that stands for several instants is yielded as the same array.

        Raises:
            InputError: the file breaks, changes its size, or its clock jumps; the message says at which second.
        """
        self.count, self.source_count, self.note, self._packets_end_s = 0, 0, "", 0.0
        self.intact, self.steps = [], []
        held: tuple[float, av.VideoFrame, bool] | None = None
        intact = Intact()
        interval = 1.0 / max(1.0, self.info.frame_rate)
        for time, frame in self._timed(interval):
            if held is not None:
                yield from self._until((held[0] + time) / 2, *held[1:])
                interval = time - held[0]
                self.steps.append(interval)
            held = (time, frame, intact.check(frame.to_ndarray(format="gray"), frame.key_frame))
            if time > self.max_seconds:
                raise too_long(self.path, time, self.max_seconds)
        if held is None:
            raise InputError(
                f"{self.path}: no picture in it can be decoded", self.note, "export the video again as mp4"
            )
        last = held[1]
        stays = float(last.duration * last.time_base) if last.duration and last.time_base else interval
        end = held[0] + (stays if 0 < stays <= MAX_GAP_S else interval)
        yield from self._until((math.floor(end * self.fps + 0.5) - 0.5) / self.fps, last, held[2])

    def _until(self, limit_s: float, frame: av.VideoFrame, intact: bool) -> Iterator[np.ndarray]:
        """Yield `frame` for every instant before `limit_s`."""
        image: np.ndarray | None = None
        while (self.count / self.fps + 1e-6 < limit_s) or self.count == 0:
            if image is None:
                image = picture_of(frame, self.info, self.exact)
            self.count += 1
            self.intact.append(intact)
            yield image

    def _timed(self, interval: float) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield decoded pictures with their time since the first one, strictly increasing."""
        previous = -math.inf
        with opened(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self.threads
            size: tuple[int, int] | None = None
            for frame in self._decoded(container, stream):
                stamp = stamp_of(frame)
                size = size or (frame.width, frame.height)
                time = stamp - self.origin_s if stamp is not None else max(0.0, previous + interval)
                if (frame.width, frame.height) != size:
                    self._broken(previous, f"the picture changes from {size} to {(frame.width, frame.height)}")
                    return
                if previous - time > TRUNCATED_S or time - previous > MAX_GAP_S and previous >= 0:
                    self._broken(previous, f"its clock jumps by {time - previous:.2f} s")
                    return
                if time <= previous:  # a repeated stamp: the second picture would never be seen
                    continue
                self.source_count += 1
                if frame.interlaced_frame:
                    self.remarks.add("interlaced: moving edges have combs; deinterlace it first")
                if frame.color_trc in HDR_TRANSFERS:
                    self.remarks.add("HDR: its colours come out flat; export it as SDR (Rec. 709)")
                yield time, frame
                previous = time
            reached = self.origin_s + previous + interval
            if stream.duration is None and container.format.name != "avi":  # the header knows only of both together
                reached = max(reached, self._packets_end_s)
            missing = end_of(container, stream) - reached
            if not self.note and size is not None and missing > max(TRUNCATED_S, 2 * interval):
                self._broken(previous, f"its header promises {missing:.1f} s more: it was cut off, or not copied whole")

    def _decoded(self, container: Any, stream: Any) -> Iterator[av.VideoFrame]:
        """Yield intact pictures; sets `origin_s` at the first one."""
        second = -1.0
        try:
            for packet in container.demux(stream, *container.streams.audio[:1]):
                if packet.pts is not None and packet.time_base is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    self._packets_end_s = max(self._packets_end_s, end)
                for frame in packet.decode() if packet.stream is stream else ():
                    started = second >= 0
                    if frame.is_corrupt and not started:
                        continue  # a stream may begin between two key frames
                    if frame.is_corrupt:
                        self._broken(second, "the picture is damaged from there on")
                        return
                    stamp = stamp_of(frame)
                    if not started:
                        self.origin_s, second = stamp or 0.0, 0.0
                    elif stamp is not None:
                        second = stamp - self.origin_s
                    yield frame
        except FAULTS as error:
            self._broken(second, f"it cannot be decoded from there on ({words_of(error)})")

    def _broken(self, second: float, why: str) -> None:
        second = max(0.0, second)
        if not self.use_damaged:
            raise InputError(
                f"{self.path}: the video breaks at {second:.1f} s",
                why,
                "copy or export it again; or set ingest.use_damaged to keep what comes before",
            )
        self.note = f"only the first {second:.1f} s are used: {why}"


def sound_rate(path: Path) -> int:
    """Return the samples a second of a file's first sound.

    Raises:
        InputError: it cannot be opened, or there is no sound in it.
    """
    with opened(path) as container:
        if not container.streams.audio:
            raise InputError(f"{path}: there is no sound in it", "", "use a recording with sound")
        return int(container.streams.audio[0].rate)


def has_picture(path: Path) -> bool:
    """Return whether there are pictures in a file besides its sound; the cover of a song is none.

    Raises:
        InputError: it cannot be opened.
    """
    with opened(path) as container:
        covers = av.stream.Disposition.attached_pic
        return any(not stream.disposition & covers for stream in container.streams.video)


def sound_start(path: Path, max_seconds: float = MAX_SECONDS) -> float:
    """Return the instant on the file's clock at which its sound begins, as `read_sound` sees it, seconds.

    Raises:
        InputError: there is no sound in it, it cannot be decoded, or is too long.
    """
    return _pieces(path, SAMPLE_RATE, max_seconds)[0][0]


def warn_if_cut_off(path: Path, seconds: float) -> None:
    """Tell of a recording whose header promises more than the `seconds` that could be read, where it counts samples."""
    with opened(path) as container:
        kind = container.format.name
        promised = end_of(container, container.streams.audio[0]) if kind in COUNTED else 0.0
    if kind == "wav":  # FFmpeg corrects its count to what is there
        promised = _seconds_of_wav(path)
    if promised > seconds + TRUNCATED_S:
        log.warning(
            "%s: its header promises %.1f s of sound, %.1f s are there: it was cut off, or not copied whole",
            path, promised, seconds,
        )  # fmt: skip


def _seconds_of_wav(path: Path) -> float:
    """Return how long the header says that the samples last; 0 where its writer could not know."""
    position, bytes_a_second = 12, 0
    with path.open("rb") as file:
        while file.seek(position) and len(head := file.read(20)) == 20:
            name, size = head[:4], int.from_bytes(head[4:8], "little")
            if name == b"data":
                return size / bytes_a_second if bytes_a_second and size < ENDLESS_BYTES else 0.0
            if name == b"fmt ":
                bytes_a_second = int.from_bytes(head[16:20], "little")
            position += 8 + size + size % 2
    return 0.0


def read_sound(
    path: Path,
    sample_rate: int = SAMPLE_RATE,
    origin_s: float | None = None,
    samples: int | None = None,
    max_seconds: float = MAX_SECONDS,
) -> np.ndarray:
    """Decode the sound of a file to mono at `sample_rate`.

    Args:
        path: a video or a sound file with any codec, rate and number of channels.
        sample_rate: samples a second that are wanted.
        origin_s: the instant of sample 0 on the file's clock (`FrameReader.origin_s`); the start of the sound if None.
        samples: how many are wanted; silence is added or the rest left out. All if None.
        max_seconds: the longest recording that is read.

    Returns:
        int16 `[S]`. Holes in the recording are silent and everything after them stays in its place.

    Raises:
        InputError: there is no sound, it cannot be decoded, holds values that are no numbers, or is too long.
    """
    pieces = _pieces(path, sample_rate, max_seconds)
    origin = pieces[0][0] if origin_s is None else origin_s
    ends = [round((start - origin) * sample_rate) + len(piece) for start, piece in pieces]
    length = max(0, *ends) if samples is None else samples
    if length > max_seconds * sample_rate:
        raise too_long(path, length / sample_rate, max_seconds)
    sound = np.zeros(length, np.int16)
    for start, piece in pieces:
        first = round((start - origin) * sample_rate)
        begin, end = max(0, first), min(length, first + len(piece))
        if end > begin:
            sound[begin:end] = piece[begin - first : end - first]
    return sound


def _pieces(path: Path, sample_rate: int, max_seconds: float) -> list[tuple[float, np.ndarray]]:
    """Return unbroken stretches of sound, at least one, with the instant of their first sample on the file's clock."""
    pieces: list[tuple[float, list[np.ndarray]]] = []
    resampler: av.AudioResampler | None = None
    kind: tuple[str, str, int] | None = None
    due, packets, lost = 0.0, 0, 0

    def drain() -> None:
        if resampler is not None:
            pieces[-1][1].extend(_samples(out) for out in resampler.resample(None))

    with opened(path) as container:
        if not container.streams.audio:
            raise InputError(
                f"{path}: there is no sound in it",
                "lips are learnt from sound and driven by it",
                "use a recording with sound",
            )
        stream = container.streams.audio[0]
        for packet in _packets(container, stream, path):
            packets += 1
            try:
                frames = packet.decode()
            except FAULTS:
                lost += 1  # many mp3 files begin with half a packet
                continue
            for frame in frames:
                if not frame.samples or not frame.sample_rate:
                    continue
                start = due if frame.time is None else float(frame.time)
                this = (frame.format.name, frame.layout.name, frame.sample_rate)
                if resampler is None or this != kind or abs(start - due) > SOUND_GAP_S:
                    drain()
                    resampler, kind, due = av.AudioResampler("s16", "mono", sample_rate), this, start
                    pieces.append((start, []))
                if frame.format.name.startswith(("flt", "dbl")) and not np.isfinite(frame.to_ndarray()).all():
                    raise InputError(
                        f"{path}: its sound holds values that are no numbers", f"at {start:.1f} s", "export it again"
                    )
                due += frame.samples / frame.sample_rate
                if due - pieces[0][0] > max_seconds:
                    raise too_long(path, due - pieces[0][0], max_seconds)
                frame.pts = None  # the resampler would stretch over what it takes for a hole; `due` keeps the clock
                pieces[-1][1].extend(_samples(out) for out in resampler.resample(frame))
        drain()
    if lost > max(2, packets // 50):
        raise InputError(
            f"{path}: its sound is damaged", f"{lost} of {packets} packets cannot be decoded", "export or copy it again"
        )
    joined = [(start, np.concatenate(parts)) for start, parts in pieces if parts]
    if not joined:
        raise InputError(f"{path}: its sound cannot be decoded", "no packet gave a sample", "export the file again")
    return joined


def read_frames_near(path: Path, seconds: Iterable[float]) -> list[np.ndarray | None]:
    """Return one upright RGB picture `[H, W, 3]` for each instant of the video, None for one that cannot be read."""
    images: list[np.ndarray | None] = []
    with opened(path) as container:
        for stream in container.streams.video:
            stream.thread_type = "AUTO"
        info = info_of(container, path)
        stream = container.streams.video[0]
        start = stream.start_time or 0
        for second in seconds:
            wanted, shown = start + int(second / (stream.time_base or 1)), None
            try:
                # To the key frame before it, which may be the only one of the whole recording, and on from there.
                container.seek(wanted, stream=stream)
                for frame in container.decode(stream):
                    shown = None if frame.is_corrupt else frame
                    if shown is not None and (shown.pts is None or shown.pts >= wanted):
                        break
            except FAULTS:
                shown = None
            if shown is not None and shown.pts is not None:
                late = float((wanted - shown.pts) * (stream.time_base or 1))
                shown = shown if late < TRUNCATED_S else None
            images.append(None if shown is None else picture_of(shown, info, exact=False))
    return images


def _packets(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    try:
        yield from container.demux(stream)
    except FAULTS as error:
        raise InputError(f"{path}: its sound cannot be read", words_of(error), "copy or export it again") from error


def _samples(frame: av.AudioFrame) -> np.ndarray:
    return frame.to_ndarray().reshape(-1)
