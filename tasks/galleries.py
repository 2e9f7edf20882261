"""The frames that went worst, metric by metric, and the frames that failed outright: truth, result, difference.

Each gallery is one JPEG of rows of three pictures; `galleries.json` beside them says which frame stands in which box.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models.metrics.base import Metric
from models.metrics.eyes import LIDS
from models.records import Clip, Landmarks
from models.storage import FrameStore
from tasks.pictures import GAP, MAX_WIDTH, letters, save_strip, with_caption
from tasks.regions import face_box, mouth_box, square_about
from tasks.scores import STATIC, Scores

Array = np.ndarray
FILE = "galleries.json"
TILE = 160  # px, height of one picture
GAIN = 4  # of the difference
ALIKE = 5 / 6  # of the frames of two galleries: only one of them is shown
COLUMNS = 2  # triples beside each other in a JPEG
GAPS = ("r_open", "r_eye")  # frame by frame gaps between lips and lids, over the distance of the eyes
WIDE = ("frame", "face_box")  # regions that rank frames as others do
CROPS = {
    "r_eye": "eyes",
    "AUE-U": "eyes",
    "AUE-U_own": "eyes",
    "jitter": "face",
    "identity": "face",
}  # where it is not the region's own
OF_REGION = {"mouth": "mouth", "face": "mouth", "face_box": "face"}  # all else shows the whole frame


@dataclass(frozen=True)
class Failure:
    """A way to fail, and by how much each frame does: `[n]`, above 0 where it fails, NaN where nobody can tell.

    `badness(own, other)` gets the series of two variants of one metric, `[n, k]` each.
    """

    name: str
    words: str
    metric: str
    region: str
    crop: str
    badness: Callable[[Array, Array], Array]
    other: str = "full"


def _lost(own: Array, _other: Array) -> Array:
    return np.where(np.isnan(own[:, 1]), np.nan, np.where(np.isnan(own[:, 0]), 1.0, -1.0))


def _lips(sign: int) -> Callable[[Array, Array], Array]:
    """By how much of the widest opening the lips are too far open (sign 1) or shut (-1), beyond a half."""

    def badness(own: Array, _other: Array) -> Array:
        return sign * (own[:, 0] - own[:, 1]) / max(1e-9, _percentile(own[:, 1], 95)) - 0.5

    return badness


def _lids(sign: int) -> Callable[[Array, Array], Array]:
    """By how much of an open eye the lids are too far open in a blink (sign 1) or shut without one (-1), beyond 0.3."""

    def badness(own: Array, _other: Array) -> Array:
        half = 0.5 * _percentile(own[:, 1], 50)
        shut = own[:, 1 if sign > 0 else 0] < half
        return np.where(shut, sign * (own[:, 0] - own[:, 1]) / max(1e-9, 2 * half) - 0.3, -1.0)

    return badness


def _outlying(own: Array, _other: Array) -> Array:
    middle = _percentile(own[:, 0], 50)
    spread = 1.4826 * _percentile(abs(own[:, 0] - middle), 50)
    return (middle - own[:, 0]) / max(0.25, spread) - 4


def _percentile(values: Array, share: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.percentile(known, share)) if len(known) else float("nan")


FAILURES = (
    Failure("no face", "the judge finds a face in the truth and none in the result", "r_open", "face", "", _lost),
    Failure(
        "mouth stays shut",
        "the lip gap is short of the truth's by more than half of its widest",
        "r_open",
        "face",
        "mouth",
        _lips(-1),
    ),
    Failure(
        "mouth open where it is shut",
        "the lip gap exceeds the truth's by more than half of its widest",
        "r_open",
        "face",
        "mouth",
        _lips(1),
    ),
    Failure("blink missed", "the truth's eyes are shut, the result's are not", "r_eye", "face", "eyes", _lids(1)),
    Failure("blink invented", "the result's eyes are shut, the truth's are not", "r_eye", "face", "eyes", _lids(-1)),
    Failure(
        "a still mouth would be nearer",
        "PSNR of the mouth is more than 1 dB below that of the best control that does not hear",
        "PSNR",
        "mouth",
        "mouth",
        lambda own, other: other[:, 0] - own[:, 0] - 1,
        STATIC,
    ),
    Failure(
        "head far off",
        "PSNR of the head lies more than 4 robust standard deviations below its median",
        "PSNR",
        "head",
        "",
        _outlying,
    ),
    Failure(
        "specks",
        "more than 10 isolated bright or dark pixels beyond the truth's",
        "specks",
        "head",
        "",
        lambda own, _: own[:, 0] - own[:, 1] - 10,
    ),
)


class Pairs:
    """True frames, the rendered ones that go with them, and where the face is in them.

    Args:
        clip: the footage.
        landmarks: of its frames.
        full: the rendering.
        positions: `[n]` where the frames lie in it.
        frames: `[n]` which frames of the clip they are.
    """

    def __init__(self, clip: Clip, landmarks: Landmarks, full: FrameStore, positions: Array, frames: Array) -> None:
        self.clip, self.landmarks, self.full, self.positions, self.frames = clip, landmarks, full, positions, frames
        self.apart = round(clip.fps / 4)  # frames between two of one gallery, which would show the same

    def triple(self, k: int, crop: str) -> Array:
        """Return truth, result and enlarged difference of the k-th frame beside each other, `TILE` pixels high."""
        frame = int(self.frames[k])
        truth, result = self.clip.frames[frame], self.full[int(self.positions[k])]
        difference = (GAIN * abs(truth.astype(np.int16) - result)).clip(0, 255).astype(np.uint8)
        box = box_of(crop, self.landmarks.points[frame], truth.shape[:2])
        return np.concatenate([_resized(picture[box], bool(crop)) for picture in (truth, result, difference)], 1)


def box_of(crop: str, points: Array, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return rows and columns of "mouth", "eyes" or "face" with something about them; the whole frame otherwise."""
    whole = slice(0, shape[0]), slice(0, shape[1])
    if crop == "face":
        found = face_box(points, shape)
    elif crop == "mouth":
        lips = mouth_box(points, shape, 0)
        found = mouth_box(points, shape, round(0.45 * (lips[1].stop - lips[1].start)))
    elif crop == "eyes":
        corners = points[[33, 263, *(point for pair in LIDS for point in pair)]]
        known = corners[~np.isnan(corners).any(-1)]
        found = square_about(corners, shape, round(0.15 * float(np.ptp(known[:, 0])))) if len(known) else whole
    else:
        return whole
    return found if found[0].stop > found[0].start and found[1].stop > found[1].start else whole


def _resized(picture: Array, square: bool) -> Array:
    width = TILE if square else round(TILE * picture.shape[1] / picture.shape[0])
    enlarged = picture.shape[0] < TILE
    return cv2.resize(picture, (width, TILE), interpolation=cv2.INTER_CUBIC if enlarged else cv2.INTER_AREA)


def save_galleries(
    folder: Path, scores: Scores, metrics: Mapping[str, Metric], pairs: Pairs, worst: int, mark: str
) -> None:
    """Write the worst frames of every metric and the frames that failed, as pictures and `galleries.json`.

    Args:
        folder: of the stage's preview.
        scores: with series of the variants "full" and "static".
        metrics: by name.
        pairs: the frames.
        worst: how many frames a gallery has at most.
        mark: of research material, empty for none.
    """
    galleries: list[dict[str, Any]] = []
    for name, region in told(scores, metrics):
        metric, series = metrics[name], scores.series[name, region, "full"]
        chosen = worst_positions(badness_of(metric, series), worst, pairs.apart)
        about = {"metric": name, "region": region, "unit": metric.unit, "better": metric.better}
        same = next((other for other in galleries if _alike(other, pairs.frames[chosen])), None)
        if same:  # LMD and LMD_iod, say
            same["same"].append(about)
        elif chosen:
            path = folder / f"worst_{name}_{region}.jpg"
            crop = CROPS.get(name, OF_REGION.get(region, ""))
            galleries.append({**about, "same": [], **_save(path, pairs, chosen, series, crop, about, mark)})
    failures = [_failed(folder, scores, metrics, pairs, failure, worst // 2, mark) for failure in FAILURES]
    content = {"worst": galleries, "failures": failures, "tests": len(pairs.frames)}
    (folder / FILE).write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def _alike(gallery: Mapping[str, Any], frames: Array) -> bool:
    """Return whether a gallery shows five of six of these frames."""
    shared = {frame["frame"] for frame in gallery["frames"]} & set(frames.tolist())
    return len(shared) >= ALIKE * max(len(frames), len(gallery["frames"]))


def told(scores: Scores, metrics: Mapping[str, Metric]) -> list[tuple[str, str]]:
    """Return metric and region of all series whose frames can be ranked, in the order of measuring."""
    return [
        (name, region)
        for name, region, variant in scores.series
        if (variant, region in WIDE) == ("full", False)
        and name in metrics
        and metrics[name].better
        and not metrics[name].series
    ]


def badness_of(metric: Metric, series: Array) -> Array:
    """Return how bad each frame is `[n]`, larger is worse: how far it is from what it is held against, or from good."""
    if series.shape[1] < 2:
        return np.array([np.nan if np.isnan(value) else -metric.merit(value) for value in series[:, 0]])
    difference = series[:, 0] - series[:, 1]
    return difference if metric.better == "lower" else abs(difference)


def worst_positions(badness: Array, count: int, apart: int) -> list[int]:
    """Return the positions of the worst frames, at least `apart` frames from each other, worst first."""
    chosen: list[int] = []
    for k in np.argsort(-badness, kind="stable"):
        if len(chosen) == count or np.isnan(badness[k]):
            break
        if all(abs(k - other) >= apart for other in chosen):
            chosen.append(int(k))
    return chosen


def _failed(
    folder: Path,
    scores: Scores,
    metrics: Mapping[str, Metric],
    pairs: Pairs,
    failure: Failure,
    most: int,
    mark: str,
) -> dict[str, Any]:
    """Return one way to fail: how many frames did, and the worst of them; `count` is None if nobody can tell."""
    about = {"name": failure.name, "words": failure.words, "metric": failure.metric, "region": failure.region}
    own, other = (scores.series.get((failure.metric, failure.region, v)) for v in ("full", failure.other))
    if own is None or other is None:
        return {**about, "unit": "", "count": None, "frames": []}
    about["unit"] = metrics[failure.metric].unit
    badness = failure.badness(own, other)
    failed = badness > 0
    chosen = worst_positions(np.where(failed, badness, np.nan), most, pairs.apart)
    if not chosen:
        return {**about, "count": 0, "frames": []}
    path = folder / f"failed_{failure.name.replace(' ', '_')}.jpg"
    told = own if failure.other == "full" else np.column_stack([own[:, 0], other[:, 0]])
    return {
        **about,
        "count": int(failed.sum()),
        **_save(path, pairs, chosen, told, failure.crop, about, mark),
    }


def _save(
    path: Path, pairs: Pairs, chosen: Sequence[int], series: Array, crop: str, about: dict[str, Any], mark: str
) -> dict[str, Any]:
    """Write a gallery; return its file, and its frames with what was measured and their boxes (x, y, w, h) in it."""
    tiles = [pairs.triple(k, crop) for k in chosen]
    height, width = tiles[0].shape[:2]
    columns = max(1, min(COLUMNS, (MAX_WIDTH + GAP) // (width + GAP)))
    across = min(columns, len(tiles)) * (width + GAP) - GAP
    frames: list[dict[str, Any]] = []
    captions: list[str] = []
    for place, k in enumerate(chosen):
        frame = int(pairs.frames[k])
        numbers = [None if np.isnan(value) else round(float(value), 5) for value in series[k]]
        told = caption(numbers, about["unit"], about["metric"])
        captions.append(f"frame {frame}, {frame / pairs.clip.fps:.2f} s of the clip: {told}")
        down, right = divmod(place, columns)
        above = with_caption(tiles[place], captions[-1], letters(across)).shape[0] - height
        box = [right * (width + GAP), down * (height + above + GAP) + above, width, height]
        frames.append({"frame": frame, "position": k, "numbers": numbers, "box": box})
    size = save_strip(path, tiles, mark, captions, columns)
    return {"file": path.name, "size": size, "frames": frames}


def caption(numbers: Sequence[float | None], unit: str, metric: str = "") -> str:
    """Return the numbers of one frame in words."""
    shown = ["none" if v is None else f"{v:.0f}" if v == int(v) else f"{v:#.3g}" for v in numbers]
    said = "of the eye distance" if metric in GAPS else "" if unit == "1" else unit
    return f"{' against '.join(shown)} {said}".rstrip()
