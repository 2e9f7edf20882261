"""Label every pixel: face, features, inside of the mouth, teeth, hair, neck, cloth, background."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from models.errors import InputError, UsageError
from models.records import Clip, Landmarks, Masks
from models.storage import FrameStore
from tasks.device import stage_device
from tasks.params import Params
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from models.parsing.mouth import MouthColours
    from models.parsing.networks import NetworkParser

log = logging.getLogger("gausstalk")


class ParseParams(Params):
    """What may be set."""

    # mediapipe: its segmentation of person and hair, then landmarks and colours. colour: colours alone find the person,
    # for plain rooms, without weights. bisenet: the papers' network. auto: colour for synthetic speakers, so that they
    # come out the same on every machine, mediapipe for others.
    parser: Literal["auto", "mediapipe", "colour", "bisenet"] = "auto"
    # colour: what is light and colourless inside the mouth. easyportrait: the papers' network.
    teeth: Literal["colour", "easyportrait"] = "colour"
    # True: teeth of easyportrait count as face and mouth alike, as TalkingGaussian's face XOR teeth makes them.
    shared_teeth: bool = False
    learning_frames: int = Field(
        default=32, ge=4
    )  # that the colours of skin, hair, neck, cloth and teeth are learnt from


STAGE = Stage(
    name="parse", per=("speaker",), params=ParseParams, reads=("ingest", "landmarks"), gives=Masks, preview=True
)


def run(context: Context[ParseParams]) -> Masks:
    """Find the person, then its parts, frame by frame."""
    from models.parsing.mouth import learn_mouth
    from models.parsing.regions import choose_frames, without_flicker
    from models.records import store_path
    from tasks.progress import track

    clip = context.read(Clip, "ingest")
    landmarks = context.read(Landmarks, "landmarks")
    if not landmarks.valid.any():
        raise InputError(f"{clip.speaker}: no frame of the clip shows a face", "", "choose footage with a frontal face")
    points, frames, params = landmarks.points, clip.frames, context.params
    if params.shared_teeth and params.teeth != "easyportrait":
        raise UsageError("parse.shared_teeth needs parse.teeth: easyportrait", "only its teeth lie over other labels")
    parser = params.parser
    if parser == "auto":
        parser = "colour" if clip.basis == "synthetic" else "mediapipe"
    chosen = choose_frames(points, landmarks.valid, params.learning_frames)
    mouth = learn_mouth([frames[t] for t in chosen], [points[t] for t in chosen])
    if parser == "bisenet":
        labels = _by_network(context, clip, mouth)
    else:
        labels = _by_landmarks(context, clip, landmarks, parser, chosen, mouth)
    if params.teeth == "easyportrait":
        parser += "+easyportrait"
        labels = _with_teeth(context, clip, labels)
    store = FrameStore.create(
        store_path(context.output, "labels"),
        track(without_flicker(labels, landmarks.cuts), f"parse {clip.speaker}", len(frames)),
        frames.shape[1:3],
    )
    quality = _quality(store, landmarks.cuts, mouth.light)
    masks = Masks(parser=parser, labels=store, valid=landmarks.valid, quality=quality)
    _preview(context, clip, landmarks, masks)
    return masks


def _by_landmarks(
    context: Context[ParseParams],
    clip: Clip,
    landmarks: Landmarks,
    parser: str,
    chosen: np.ndarray,
    mouth: MouthColours,
) -> Iterator[np.ndarray]:
    """Label all frames from their landmarks, the clip's colours and where person and hair are."""
    from models.parsing.regions import label_frame, learn
    from models.parsing.segmentation import ColourSegmenter, HairSegmenter, Segmenter, SelfieSegmenter, steady
    from tasks.assets import find_asset

    points, frames = landmarks.points, clip.frames
    segmenter: Segmenter
    hair_segmenter: HairSegmenter | None = None
    if parser == "colour":
        few = chosen[np.unique(np.linspace(0, len(chosen) - 1, 8).astype(int))]
        segmenter = ColourSegmenter([frames[t] for t in few], [points[t] for t in few])
    else:
        # Labelling takes the other half of the threads meanwhile.
        half = max(1, context.threads // 2)
        segmenter = SelfieSegmenter(find_asset(context.places, "selfie_segmentation"), half)
        hair_segmenter = HairSegmenter(find_asset(context.places, "hair_segmentation"), half)

    def masks_of(t: int, face: np.ndarray | None) -> np.ndarray:
        """Return the person's probability, and the hair's where a network gives it, `[1 or 2, H, W]`."""
        found = [segmenter.probability(frames[t], face)]
        if hair_segmenter:
            found.append(hair_segmenter.probability(frames[t]))
        return np.stack(found)

    known = [masks_of(t, points[t]) for t in chosen]
    hairs = [masks[1] for masks in known] if hair_segmenter else None
    appearance = learn([frames[t] for t in chosen], [m[0] for m in known], [points[t] for t in chosen], mouth, hairs)
    nearest = _nearest_valid(landmarks.valid)
    found = (masks_of(t, points[t] if seen else None) for t, seen in enumerate(landmarks.valid))
    for t, masks in enumerate(_ahead(steady(found, landmarks.cuts))):
        hair = masks[1] if hair_segmenter else None
        yield label_frame(frames[t], masks[0], points[nearest[t]], appearance, bool(landmarks.valid[t]), hair)


def _by_network(context: Context[ParseParams], clip: Clip, mouth: MouthColours) -> Iterator[np.ndarray]:
    """Label all frames by BiSeNet, which knows no teeth: they are what is light and colourless inside the mouth."""
    from models.parsing import labels as L
    from models.parsing.networks import bisenet_parser
    from tasks.assets import find_asset

    network = bisenet_parser(find_asset(context.places, "bisenet"), context.threads, stage_device())
    log.info("bisenet runs on %s", network.provider)
    for frame, labels in _in_batches(network, clip.frames):
        inside = labels == L.MOUTH
        if inside.any():
            labels[inside] = np.where(mouth.are_teeth(frame[inside]), L.TEETH, L.MOUTH)
        yield labels


def _with_teeth(context: Context[ParseParams], clip: Clip, labels: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Lay the teeth that EasyPortrait's network finds over the labels."""
    from models.parsing import labels as L
    from models.parsing.networks import easyportrait_parser, overlay_teeth
    from tasks.assets import find_asset

    network = easyportrait_parser(find_asset(context.places, "easyportrait"), context.threads, stage_device())
    log.info("easyportrait runs on %s", network.provider)
    for (_, found), below in zip(_in_batches(network, clip.frames), labels, strict=True):
        # What was taken for teeth by colour is mouth, unless the network agrees.
        below = np.where(below == L.TEETH, np.uint8(L.MOUTH), below)
        yield overlay_teeth(below, found == L.TEETH, context.params.shared_teeth)


def _in_batches(network: NetworkParser, frames: FrameStore) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every frame with its labels."""
    from models.parsing.networks import BATCH

    for start in range(0, len(frames), BATCH):
        batch = [frames[t] for t in range(start, min(start + BATCH, len(frames)))]
        yield from zip(batch, network.label(batch), strict=True)


def _ahead(items: Iterator[np.ndarray], depth: int = 4) -> Iterator[np.ndarray]:
    """Yield the items while a second thread already makes the next ones; networks and OpenCV let both run at once."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]  # the end is sorted out above


def _nearest_valid(valid: np.ndarray) -> np.ndarray:
    """Return for every frame the nearest one with a face, `[T]`."""
    known = np.flatnonzero(valid)
    place = np.interp(np.arange(len(valid)), known, np.arange(len(known)))
    return known[np.round(place).astype(int)]


def _quality(store: FrameStore, cuts: Sequence[int], light: float) -> dict[str, float]:
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
        "tooth_lightness": light if np.isfinite(light) else -1.0,  # teeth are lighter; -1: none were told apart
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
