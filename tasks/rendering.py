"""What the stages that give videos share: their params, and the marked video for a person."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from models.records import Clip, Rendering, store_path
from models.storage import FrameStore
from tasks.params import Params
from tasks.people import Basis, Drive, Speaker, mark_of
from tasks.stage import Context


class RenderParams(Params):
    """How heads are rendered."""

    wrong_audio_s: float = Field(5.0, gt=0)  # the control hears the sound of so many seconds before
    difference_gain: float = Field(4.0, gt=0)  # of the third picture in side_by_side.mp4
    crf: int = Field(16, ge=0, le=40)  # of H.264, lower is better


def write_preview(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: float,
    sound: np.ndarray,
    sample_rate: int,
    names: tuple[str, str],
    people: Sequence[Speaker | Drive],
    crf: int = 16,
    lossless: bool = False,
) -> None:
    """Write a video with sound that carries the mark of whoever is in it, and where it comes from.

    Args:
        path: of the video.
        frames: `[H, W, 3]` uint8 RGB, streamed.
        fps: pictures a second.
        sound: int16 `[S]` mono.
        sample_rate: of the sound.
        names: of the speaker and of what drives the head.
        people: whose head, voice and motion it is made from, as far as they are known.
        crf: of H.264.
        lossless: see `tasks.media.write_video`.
    """
    from tasks.media import write_video

    bases: list[Basis] = [person.basis for person in people]
    metadata = {
        "basis": "+".join(dict.fromkeys(bases)),
        "speaker": names[0],
        "drive": names[1],
        "made_with": "gausstalk",
    }
    write_video(path, frames, fps, sound, sample_rate, mark_of(*bases), metadata, crf, lossless)


def earlier(frame: int, shift: int, count: int) -> int:
    """Return the frame `shift` before; after, where none is before; half a clip on, where the clip is too short."""
    if shift <= frame or frame + shift < count:
        return frame - shift if shift <= frame else frame + shift
    return (frame + count // 2) % count


def render_variants(
    context: Context[RenderParams],
    method: str,
    clip: Clip,
    frames: np.ndarray,
    variants: Sequence[str],
    pictures: Callable[[str], Iterator[np.ndarray]],
    computed_on: Mapping[str, str],
    teachers: Sequence[Speaker] = (),
    hearing: float = 0.0,
) -> Rendering:
    """Draw frames of a clip in every variant, "full" first, with videos for a person.

    What a frame takes is told of "full" alone: a control need not hear or move, and other methods have others.

    Args:
        context: of the stage.
        method: whose head it is.
        clip: of the true frames.
        frames: `[n]` indices of them.
        variants: the head and its controls.
        pictures: gives the `n` pictures of a variant.
        computed_on: device and rasteriser.
        teachers: who else taught the head.
        hearing: seconds a frame that were spent on its sound before there are pictures.
    """
    next(pictures("full"))  # kernels are compiled now, and not while the clock runs
    stores, seconds = {}, {}
    for variant in variants:
        started = time.monotonic()
        path = store_path(context.output, variant)
        stores[variant] = FrameStore.create(path, pictures(variant), clip.frames.shape[1:])
        seconds[variant] = time.monotonic() - started
    milliseconds = 1000 * (hearing + seconds["full"] / len(frames))
    write_previews(context.preview, clip, frames, stores["full"], (context.speaker(), *teachers), context.params)
    return Rendering(
        method=method,
        variants=list(variants),
        frame_index=frames.astype(np.int32),
        quality={
            "milliseconds_a_frame": round(milliseconds, 2),
            "threads": context.threads,
            "teachers": [person.basis for person in teachers],
            **computed_on,
        },
        **stores,
    )


def render_drive(
    context: Context[RenderParams],
    method: str,
    frames: np.ndarray,
    pictures: Iterator[np.ndarray],
    shape: tuple[int, ...],
    fps: float,
    sample_rate: int,
    computed_on: Mapping[str, str],
    teachers: Sequence[Speaker] = (),
) -> Rendering:
    """Draw what a drive makes a head say, with a video for a person.

    Args:
        context: of the stage.
        method: whose head it is.
        frames: `[n]` which frame of the clip gives each picture its pose.
        pictures: the `n` pictures.
        shape: `[H, W, 3]` of them.
        fps: of the clip.
        sample_rate: of the video's sound.
        computed_on: device and rasteriser.
        teachers: who else taught the head.
    """
    from tasks.media import read_sound

    speaker, drive = context.speaker(), context.drive()
    names = (str(context.keys.speaker), str(context.keys.drive))
    started = time.monotonic()
    full = FrameStore.create(store_path(context.output, "full"), pictures, shape)
    milliseconds = 1000 * (time.monotonic() - started) / len(frames)
    sound = read_sound(context.places.raw_drive(names[1]) / drive.source, sample_rate)
    path, people = context.preview / "result.mp4", (speaker, *teachers, drive)
    write_preview(path, full, fps, sound, sample_rate, names, people, context.params.crf)
    quality = {"milliseconds_a_frame": round(milliseconds, 2), "threads": context.threads, **computed_on}
    return Rendering(method=method, variants=["full"], full=full, frame_index=frames, quality=quality)


def write_previews(
    folder: Path, clip: Clip, frames: np.ndarray, full: FrameStore, people: Sequence[Speaker], params: RenderParams
) -> None:
    """Write result.mp4, and side_by_side.mp4 with the truth before and the difference behind, of a clip's frames.

    Args:
        folder: to write into.
        clip: of the true frames.
        frames: `[n]` indices of them.
        full: their `n` renderings.
        people: whose they are, and who else taught the head.
        params: how the videos are made.
    """
    samples = clip.sample_rate / clip.fps
    sound = np.concatenate([clip.sound[round(t * samples) : round((t + 1) * samples)] for t in frames.tolist()])

    def beside() -> Iterator[np.ndarray]:
        for frame, result in zip(frames.tolist(), full, strict=True):
            truth = clip.frames[frame]
            difference = np.abs(truth.astype(np.float32) - result) * params.difference_gain
            yield np.concatenate([truth, result, difference.clip(0, 255).astype(np.uint8)], 1)

    names = (clip.speaker, clip.speaker)
    for file, pictures in (("result.mp4", full), ("side_by_side.mp4", beside())):
        write_preview(folder / file, pictures, clip.fps, sound, clip.sample_rate, names, people, crf=params.crf)
