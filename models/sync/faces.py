"""Tracks of a face and the pictures cut out along them, as SyncNet's published pipeline has them.

Its numbers: a face may be missing for 25 frames, between which its box is interpolated; a track has more than 100
frames and a face of more than 100 pixels; half the longer side of the box and its middle go through a median filter
over 13 frames, with nought beyond the ends; what is cut out reaches 1.4 half sides to the left and the right, 1 up and
1.8 down; grey of 110 lies beyond the frame; 224x224 pixels. Boxes overlap by more than half from one to the next.

What differs: the boxes are those about the landmarks (forehead to chin, ear to ear) instead of the detector S3FD's, and
neither frames nor cut-outs go through JPEG or MPEG-4 on the way.
Source: run_pipeline.py of github.com/joonson/syncnet_python.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.signal import medfilt

SIDE = 224  # pixels of a cut-out
LONGEST_GAP, LEAST_FRAMES, LEAST_PIXELS, LEAST_OVERLAP = 25, 100, 100, 0.5
MEDIAN = 13
MARGIN = 0.4
GREY = 110


@dataclass(frozen=True)
class Track:
    """A face over `frames` `[n]`, neighbours: its middle `[n, 2]` and half the side of its box `[n]`, pixels."""

    frames: np.ndarray
    middle: np.ndarray
    half: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)


def boxes_about(points: np.ndarray) -> np.ndarray:
    """Return left, top, right and bottom `[T, 4]` of what landmarks `[T, P, 2]` span; NaN where there are none."""
    boxes = np.full((len(points), 4), np.nan)
    for t, face in enumerate(points):
        seen = face[np.isfinite(face).all(1)]
        if len(seen):
            boxes[t] = np.concatenate([seen.min(0), seen.max(0)])
    return boxes


def tracks_of(boxes: np.ndarray, cuts: Sequence[int] = ()) -> tuple[list[Track], str]:
    """Return the tracks of one face, longest first, and why there is none.

    Args:
        boxes: `[T, 4]`, NaN where no face was found.
        cuts: first frames of new shots, which no track crosses.
    """
    found: list[Track] = []
    longest, largest = 0, 0.0
    for run in _runs(boxes, cuts):
        frames = np.arange(run[0], run[-1] + 1)
        whole = np.stack([np.interp(frames, run, boxes[run, k]) for k in range(4)], 1)
        sides = whole[:, 2:] - whole[:, :2]
        longest = max(longest, len(run))
        if len(run) <= LEAST_FRAMES:
            continue
        largest = max(largest, float(sides.mean(0).max()))
        if sides.mean(0).max() <= LEAST_PIXELS:
            continue
        half, x, y = (medfilt(line, MEDIAN) for line in (sides.max(1) / 2, *((whole[:, :2] + whole[:, 2:]) / 2).T))
        found.append(Track(frames, np.stack([x, y], 1), half))
    found.sort(key=len, reverse=True)
    if found:
        return found, ""
    if longest <= LEAST_FRAMES:
        return [], f"the face is seen for {longest} frames at a stretch, and more than {LEAST_FRAMES} are needed"
    return [], f"the face is {largest:.0f} pixels large, and more than {LEAST_PIXELS} are needed"


def _runs(boxes: np.ndarray, cuts: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the frames of each stretch in which a face is found again and again."""
    shot = np.searchsorted(np.sort(np.asarray(cuts, int)), np.arange(len(boxes)), "right")
    run: list[int] = []
    for t in np.flatnonzero(~np.isnan(boxes).any(1)):
        if run and (
            shot[t] != shot[run[-1]] or t - run[-1] > LONGEST_GAP or overlap(boxes[t], boxes[run[-1]]) <= LEAST_OVERLAP
        ):
            yield np.array(run)
            run = []
        run.append(int(t))
    if run:
        yield np.array(run)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection of two boxes over their union."""
    inner = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).prod()
    both = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner
    return float(inner / both) if both else 0.0


def cut_out(frame: np.ndarray, middle: np.ndarray, half: float) -> np.ndarray:
    """Return the face `[224, 224, 3]` of a uint8 frame."""
    border = int(half * (1 + 2 * MARGIN))
    padded = cv2.copyMakeBorder(frame, border, border, border, border, cv2.BORDER_CONSTANT, value=(GREY,) * 3)
    x, y = middle + border
    wide = half * (1 + MARGIN)
    face = padded[int(y - half) : int(y + half * (1 + 2 * MARGIN)), int(x - wide) : int(x + wide)]
    return cv2.resize(face, (SIDE, SIDE))
