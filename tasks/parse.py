"""Label every pixel: face, features, inside of the mouth, teeth, hair, neck, cloth, background."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from models.errors import InputError
from models.records import Clip, Landmarks, Masks
from models.storage import FrameStore
from tasks.params import Params
from tasks.stage import Context, Stage, main


class ParseParams(Params):
    """What may be set."""

    # mediapipe: its selfie segmentation finds the person. colour: colours alone do, for plain rooms, without weights.
    # auto: colour for synthetic speakers, so that they come out the same on every machine, mediapipe for others.
    parser: Literal["auto", "mediapipe", "colour"] = "auto"
    learning_frames: int = Field(
        default=32, ge=4
    )  # that the colours of skin, hair, neck, cloth and teeth are learnt from


STAGE = Stage(
    name="parse", per=("speaker",), params=ParseParams, reads=("ingest", "landmarks"), gives=Masks, preview=True
)


def run(context: Context[ParseParams]) -> Masks:
    """Find the person, then its parts, frame by frame."""
    from models.parsing.regions import choose_frames, label_frame, learn, without_flicker
    from models.parsing.segmentation import ColourSegmenter, Segmenter, SelfieSegmenter, steady
    from models.records import store_path
    from tasks.assets import find_asset
    from tasks.progress import track

    clip = context.read(Clip, "ingest")
    landmarks = context.read(Landmarks, "landmarks")
    if not landmarks.valid.any():
        raise InputError(f"{clip.speaker}: no frame of the clip shows a face", "", "choose footage with a frontal face")
    points, frames = landmarks.points, clip.frames
    parser = context.params.parser
    if parser == "auto":
        parser = "colour" if clip.basis == "synthetic" else "mediapipe"
    chosen = choose_frames(points, landmarks.valid, context.params.learning_frames)
    segmenter: Segmenter
    if parser == "colour":
        few = chosen[np.unique(np.linspace(0, len(chosen) - 1, 8).astype(int))]
        segmenter = ColourSegmenter([frames[t] for t in few], [points[t] for t in few])
    else:
        segmenter = SelfieSegmenter(find_asset(context.places, "selfie_segmentation"), context.threads)

    people = [segmenter.probability(frames[t], points[t]) for t in chosen]
    appearance = learn([frames[t] for t in chosen], people, [points[t] for t in chosen])
    nearest = _nearest_valid(landmarks.valid)

    def probabilities() -> Iterator[np.ndarray]:
        for t, frame in enumerate(frames):
            yield segmenter.probability(frame, points[t] if landmarks.valid[t] else None)

    def labels() -> Iterator[np.ndarray]:
        people = steady(probabilities(), landmarks.cuts)
        for t, (frame, person) in enumerate(zip(frames, people, strict=True)):
            yield label_frame(frame, person, points[nearest[t]], appearance, bool(landmarks.valid[t]))

    store = FrameStore.create(
        store_path(context.output, "labels"),
        track(without_flicker(labels(), landmarks.cuts), f"parse {clip.speaker}", len(frames)),
        frames.shape[1:3],
    )
    quality = _quality(store, landmarks.cuts, appearance.mouth.tooth)
    masks = Masks(parser=parser, labels=store, valid=landmarks.valid, quality=quality)
    _preview(context, clip, landmarks, masks)
    return masks


def _nearest_valid(valid: np.ndarray) -> np.ndarray:
    """Return for every frame the nearest one with a face, `[T]`."""
    known = np.flatnonzero(valid)
    place = np.interp(np.arange(len(valid)), known, np.arange(len(known)))
    return known[np.round(place).astype(int)]


def _quality(store: FrameStore, cuts: Sequence[int], tooth: float) -> dict[str, float]:
    """Measure how large the parts are and how much the head's mask changes from frame to frame."""
    from models.parsing.labels import head, inside_mouth, torso

    sizes: list[tuple[float, float, float]] = []
    changes: list[float] = []
    before: np.ndarray | None = None
    for t, labels in enumerate(store):
        now = head(labels) | inside_mouth(labels)
        sizes.append((float(now.mean()), float(torso(labels).mean()), float(inside_mouth(labels).sum())))
        if before is not None and t not in cuts:
            changes.append(float(np.count_nonzero(now != before)) / max(1, np.count_nonzero(now)))
        before = now
    share = np.array(sizes)
    return {
        "head_share": float(share[:, 0].mean()),
        "torso_share": float(share[:, 1].mean()),
        "inside_mouth_px_p95": float(np.percentile(share[:, 2], 95)),
        "head_change": float(np.mean(changes)) if changes else 0.0,  # of its pixels, from one frame to the next
        "tooth_threshold": tooth if np.isfinite(tooth) else -1.0,  # -1: no teeth were told apart
    }


def _preview(context: Context[ParseParams], clip: Clip, landmarks: Landmarks, masks: Masks) -> None:
    from models.parsing.labels import head, inside_mouth
    from tasks.pictures import draw_labels, mark_of_clip, save_strip, telling_frames

    tiles: list[np.ndarray] = []
    captions: list[str] = []
    for t, caption in telling_frames(landmarks.points, landmarks.valid):
        frame, labels = clip.frames[t], masks.labels[t]
        cut_out = np.where((head(labels) | inside_mouth(labels))[..., None], frame, np.array([60, 200, 60], np.uint8))
        tiles.append(np.concatenate([draw_labels(frame, labels), cut_out]))
        captions.append(caption)
    save_strip(context.preview / "strip.jpg", tiles, mark_of_clip(clip), captions)


if __name__ == "__main__":
    main(STAGE, run)
