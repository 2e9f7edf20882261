"""Pictures of a whole clip over time: a film of small frames with curves below it, one second above the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from tasks.pictures import FONT, INK, PAPER, PLOT_LEFT, PLOT_RIGHT, draw_curves
from tasks.waveform import waveform

Array = np.ndarray
FRAME_WIDTH = 110  # px of one frame of a film
CUT_COLOUR = (200, 60, 160)


class Frames(Protocol):
    """Pictures `[H, W, 3]` uint8 by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Array: ...


def film(frames: Frames, width: int) -> Array:
    """Return small frames side by side, each above the middle of its stretch of the curves of `draw_curves`."""
    inner = width - PLOT_LEFT - PLOT_RIGHT
    count = max(1, min(len(frames), inner // FRAME_WIDTH))
    edges = np.linspace(PLOT_LEFT, width - PLOT_RIGHT, count + 1).round().astype(int)
    tall, wide = frames[0].shape[:2]
    height = round((edges[1] - edges[0]) * tall / wide)
    picture = np.full((height, width, 3), PAPER, np.uint8)
    for k in range(count):
        frame = frames[int((k + 0.5) / count * len(frames))]
        size = (int(edges[k + 1] - edges[k]), height)
        picture[:, edges[k] : edges[k + 1]] = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return picture


def runs_of(marked: Array) -> list[tuple[int, int]]:
    """Return (first, end) of every stretch of true values in `[T]`; end is one past the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def timeline(
    frames: Frames,
    points: Array,
    looked: Array,
    closed: Array,
    sound: Array,
    cuts: Sequence[int],
    fps: float,
    lines: Sequence[str] = (),
    width: int = 1200,
) -> Array:
    """Return a recording at a glance: frames, loudness, mouth, eyes and turn of the head over time.

    Shaded: no face. Vertical lines: cuts.

    Args:
        frames: pictures spread evenly over the recording.
        points: landmarks `[T, 478, 2]`, NaN without a face.
        looked: `[T]` frames in which a face was looked for.
        closed: `[T]` how far the eyes are closed, 0..1.
        sound: int16 `[S]`, empty when there is none.
        cuts: first frames of new shots.
        fps: of the frames.
        lines: of text above; the first one is the heading.
        width: px.
    """
    from models.footage import head_yaw, mouth_opening

    count = len(points)
    shades = runs_of(looked & ~np.isfinite(points).any((1, 2)))
    curves = {
        "mouth opening, % of the eye distance": 100 * mouth_opening(points),
        "eyes closed, 0 to 1": closed,
        "head turned to its left, degrees": head_yaw(points),
    }
    rows = [_words(lines, width)] if lines else []
    rows.append(film(frames, width))
    if len(sound):
        rows.append(_loudness(sound, width))
    for name, curve in curves.items():
        plot = draw_curves({name: curve}, width, 110, shades)
        inner = width - PLOT_LEFT - PLOT_RIGHT
        for cut in cuts:
            x = PLOT_LEFT + round(cut * inner / max(1, count - 1))
            cv2.line(plot, (x, 20), (x, plot.shape[0] - 8), CUT_COLOUR, 1, cv2.LINE_AA)
        rows.append(plot)
    rows.append(_seconds(count / fps, width))
    return np.concatenate(rows)


def _loudness(sound: Array, width: int) -> Array:
    row = np.full((70, width, 3), PAPER, np.uint8)
    row[6:64, PLOT_LEFT : width - PLOT_RIGHT] = waveform(sound, width - PLOT_LEFT - PLOT_RIGHT, 58)
    cv2.putText(row, "sound", (2, 38), FONT, 0.38, INK, 1, cv2.LINE_AA)
    return row


def _seconds(seconds: float, width: int) -> Array:
    row = np.full((20, width, 3), PAPER, np.uint8)
    for k in range(6):
        text = f"{seconds * k / 5:.1f} s"
        wide = cv2.getTextSize(text, FONT, 0.4, 1)[0][0]
        x = PLOT_LEFT + round((width - PLOT_LEFT - PLOT_RIGHT) * k / 5)
        cv2.putText(row, text, (min(x, width - wide - 2), 12), FONT, 0.4, INK, 1, cv2.LINE_AA)
    return row


def _words(lines: Sequence[str], width: int) -> Array:
    """Return lines of text, the first one large; what is too long is made smaller."""
    picture = np.full((14 + 26 + 20 * (len(lines) - 1), width, 3), PAPER, np.uint8)
    for k, line in enumerate(lines):
        scale, text = (0.7, line) if k == 0 else (0.45, f"- {line}")
        while scale > 0.25 and cv2.getTextSize(text, FONT, scale, 1)[0][0] > width - 16:
            scale -= 0.02
        cv2.putText(picture, text, (8, 26 + 20 * k + (4 if k else 0)), FONT, scale, INK, 1, cv2.LINE_AA)
    return picture
