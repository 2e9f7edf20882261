"""Pictures for a person: strips of frames with overlays, captions, curves, and the mark of research material."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from models.errors import UsageError
from models.heads.mediapipe_points import (
    EYE_OUTER_LEFT,
    EYE_OUTER_RIGHT,
    LID_PAIRS_LEFT,
    LID_PAIRS_RIGHT,
    LIP_PAIRS,
)
from models.parsing.labels import COLOURS
from models.records import Clip
from tasks.people import Basis, mark_of

Array = np.ndarray
Colour = tuple[int, int, int]

MAX_WIDTH = 1800
JPEG_QUALITY = 85
GAP = 6
MARGIN = 28  # px of a small picture, for its mark
LETTERS = 0.45  # size of the captions of a small picture; 22 px high at 1
PAPER: Colour = (255, 255, 255)
INK: Colour = (30, 30, 30)
CURVE_COLOURS: tuple[Colour, ...] = (
    *((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14)),
    *((23, 190, 207), (140, 86, 75), (227, 119, 194)),
)
PLOT_LEFT, PLOT_RIGHT = 46, 8  # px beside the curves of a plot
FONT = cv2.FONT_HERSHEY_SIMPLEX


def save_strip(
    path: Path, tiles: Sequence[Array], mark: str, captions: Sequence[str] | None = None, columns: int = 4
) -> tuple[int, int]:
    """Write tiles as one JPEG, `columns` in a row; a tile as wide as a row gets a row of its own.

    Args:
        path: of the JPEG.
        tiles: `[h, w, 3]` uint8 RGB, any sizes.
        mark: written below the tiles, empty for none (tasks.people.mark_of).
        captions: one a tile, drawn above it.
        columns: tiles in a row, for tiles of the first one's width.

    Returns:
        Width and height of the picture.

    Raises:
        UsageError: no tiles, a tile that is not an RGB picture, or another number of captions than tiles.
    """
    if not tiles:
        raise UsageError(f"{path}: no tiles for a strip")
    if captions is not None and len(captions) != len(tiles):
        raise UsageError(f"{path}: {len(captions)} captions for {len(tiles)} tiles")
    for tile in tiles:
        if tile.ndim != 3 or tile.shape[2] != 3 or tile.dtype != np.uint8:
            raise UsageError(f"{path}: a tile of shape {tile.shape} and type {tile.dtype}, not RGB uint8")
    limit = columns * tiles[0].shape[1] + (columns - 1) * GAP
    rows: list[list[int]] = [[]]
    for k, tile in enumerate(tiles):
        used = sum(tiles[other].shape[1] + GAP for other in rows[-1])
        if rows[-1] and used + tile.shape[1] > limit:
            rows.append([])
        rows[-1].append(k)
    size = letters(max(sum(tiles[k].shape[1] + GAP for k in row) - GAP for row in rows))
    labelled = [
        with_caption(tile, text, size) if text else tile
        for tile, text in zip(tiles, captions or [""] * len(tiles), strict=True)
    ]
    picture = _stack([_stack([labelled[k] for k in row], axis=1) for row in rows], axis=0)
    if picture.shape[1] > MAX_WIDTH:
        height = round(picture.shape[0] * MAX_WIDTH / picture.shape[1])
        picture = cv2.resize(picture, (MAX_WIDTH, height), interpolation=cv2.INTER_AREA)
    if mark:
        # Below the tiles, where it hides no axis and no landmark.
        margin = max(MARGIN, round(40 * _mark_size(picture)))
        picture = np.concatenate([picture, np.full((margin, picture.shape[1], 3), PAPER, np.uint8)])
    save_jpeg(path, with_mark(picture, mark))
    return picture.shape[1], picture.shape[0]


def mark_of_clip(clip: Clip) -> str:
    """Return the mark that pictures of a clip carry."""
    return mark_of(cast(Basis, clip.basis))


def save_jpeg(path: Path, picture: Array) -> None:
    """Write an RGB picture `[h, w, 3]` uint8 as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _, code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    path.write_bytes(code.tobytes())


def _stack(tiles: Sequence[Array], axis: int) -> Array:
    across = 1 - axis
    size = max(tile.shape[across] for tile in tiles)
    padded: list[Array] = []
    for index, tile in enumerate(tiles):
        margins = [[0, 0], [0, 0], [0, 0]]
        margins[across][1] = size - tile.shape[across]
        margins[axis][1] = GAP if index < len(tiles) - 1 else 0
        padded.append(np.pad(tile, margins, constant_values=255))
    return np.concatenate(padded, axis=axis)


def letters(width: int) -> float:
    """Return the size of captions in a picture `width` px wide that can be read where it is shown a third as wide."""
    return LETTERS * max(1.0, width / 600)


def with_caption(picture: Array, text: str, size: float = LETTERS) -> Array:
    """Return the picture with a line of text on a strip above it, 40 `size` px high; long text is made smaller."""
    width = picture.shape[1]
    strip = np.full((round(40 * size), width, 3), PAPER, np.uint8)
    scale = min(size, width / 560 * size / LETTERS)
    while scale > 0.2 and cv2.getTextSize(text, FONT, scale, _stroke(scale))[0][0] > width - 6:
        scale -= 0.02
    cv2.putText(strip, text, (3, round(29 * size)), FONT, scale, INK, _stroke(scale), cv2.LINE_AA)
    return np.concatenate([strip, picture])


def _stroke(scale: float) -> int:
    return 2 if scale > 0.9 else 1


def _mark_size(picture: Array) -> float:
    return float(np.clip(picture.shape[1] / 1200, 0.3, 1.5))


def with_mark(picture: Array, mark: str) -> Array:
    """Return the picture with `mark` in the lower left corner, readable on any background; empty for none."""
    if not mark:
        return picture
    marked = np.ascontiguousarray(picture)
    marked = marked.copy() if marked is picture else marked
    scale = _mark_size(picture)
    while scale > 0.2 and cv2.getTextSize(mark, FONT, scale, _stroke(scale))[0][0] > picture.shape[1] - 8:
        scale -= 0.02
    (width, height), below = cv2.getTextSize(mark, FONT, scale, _stroke(scale))
    left, bottom = 4, picture.shape[0] - below - 2
    box = marked[max(0, bottom - height - 3) : bottom + below + 2, : left + width + 4]
    box[:] = box // 4  # darkened, so that the text can be read on any picture
    cv2.putText(marked, mark, (left, bottom), FONT, scale, (255, 255, 255), _stroke(scale), cv2.LINE_AA)
    return marked


def enlarged(picture: Array, factor: int) -> Array:
    """Return the picture `factor` times as large, pixels kept as squares."""
    return np.repeat(np.repeat(picture, factor, axis=0), factor, axis=1)


def draw_points(picture: Array, points: Array, colour: Colour = (0, 255, 0), radius: int = 1) -> Array:
    """Return the picture with dots at `points` `[n, 2]` px; those that are NaN are left out."""
    drawn = picture.copy()
    for x, y in points[np.isfinite(points).all(axis=1)]:
        # Four fractional bits; the centre of the top left pixel is (0.5, 0.5).
        cv2.circle(drawn, (round((x - 0.5) * 16), round((y - 0.5) * 16)), radius * 16, colour, -1, cv2.LINE_AA, 4)
    return drawn


def draw_mesh(
    picture: Array, vertices: Array, triangles: Array, colour: Colour = (0, 220, 255), opacity: float = 0.55
) -> Array:
    """Return the picture with the front-facing triangles of a mesh as lines.

    Args:
        picture: `[h, w, 3]` uint8.
        vertices: `[v, 2]` px, projected.
        triangles: `[f, 3]`, counter-clockwise seen from outside, so clockwise in image axes they face away.
        colour: of the lines.
        opacity: of the lines.
    """
    corners = vertices[triangles]
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0
    lines = picture.copy()
    shown = np.round((corners[front] - 0.5) * 16).astype(np.int32)
    cv2.polylines(lines, list(shown), True, colour, 1, cv2.LINE_AA, 4)
    return cv2.addWeighted(lines, opacity, picture, 1 - opacity, 0)


def draw_labels(picture: Array, labels: Array, opacity: float = 0.55) -> Array:
    """Return the picture with the parser's labels `[h, w]` as colours over it; the background stays as it is."""
    mixed = cv2.addWeighted(COLOURS[labels], opacity, picture, 1 - opacity, 0)
    return np.where((labels > 0)[..., None], mixed, picture)


def over_checkerboard(picture: Array, square: int = 8) -> Array:
    """Return an RGBA picture `[h, w, 4]` uint8 with straight alpha over a grey checkerboard, as RGB."""
    height, width = picture.shape[:2]
    board = (np.arange(height)[:, None] // square + np.arange(width)[None] // square) % 2
    behind = np.where(board[..., None] > 0, 200.0, 150.0)
    alpha = picture[..., 3:].astype(np.float32) / 255
    return np.round(picture[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8)


def draw_curves(
    curves: Mapping[str, Array], width: int = 1200, height: int = 160, shades: Sequence[tuple[int, int]] = ()
) -> Array:
    """Return a small plot of curves over frames, all on one axis from their least to their greatest value.

    Args:
        curves: name -> `[T]`; NaN makes a break.
        width: px.
        height: px.
        shades: pairs (first, end) of frames to shade, for example gaps.
    """
    picture = np.full((height, width, 3), PAPER, np.uint8)
    values = np.concatenate([np.asarray(c, np.float64)[np.isfinite(c)] for c in curves.values()])
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    high = high if high > low else low + 1
    length = max(2, max(len(c) for c in curves.values()))
    left, right, top, bottom = PLOT_LEFT, width - PLOT_RIGHT, 20, height - 8

    def x_of(frame: Array | float) -> Array:
        return left + np.asarray(frame) * (right - left) / (length - 1)

    for first, end in shades:
        picture[top:bottom, int(x_of(first)) : int(x_of(max(first, end - 1))) + 1] = (235, 235, 235)
    cv2.rectangle(picture, (left, top), (right, bottom), (190, 190, 190), 1)
    for value, y in ((high, top), (low, bottom)):
        cv2.putText(picture, f"{value:.3g}", (2, y + 4), FONT, 0.34, INK, 1, cv2.LINE_AA)
    at = left
    for (name, curve), colour in zip(curves.items(), CURVE_COLOURS * len(curves), strict=False):
        y = bottom - (np.asarray(curve, np.float64) - low) / (high - low) * (bottom - top)
        line = np.stack([x_of(np.arange(len(y))), y], axis=1)
        for piece in np.split(line, np.flatnonzero(~np.isfinite(y))):
            piece = piece[np.isfinite(piece[:, 1])]
            cv2.polylines(picture, [np.round(piece * 16).astype(np.int32)], False, colour, 1, cv2.LINE_AA, 4)
        cv2.putText(picture, name, (at, 14), FONT, 0.42, colour, 1, cv2.LINE_AA)
        at += cv2.getTextSize(name, FONT, 0.42, 1)[0][0] + 14
    return picture


def telling_frames(points: Array, valid: Array, count: int = 8) -> list[tuple[int, str]]:
    """Choose frames that show what is hard: widest mouth, closed eyes, turned left and right, the rest spread evenly.

    Args:
        points: landmarks `[T, 478, 2]` px.
        valid: `[T]`.
        count: how many.

    Returns:
        (frame, what it shows) in order of time; fewer when the clip is shorter.
    """
    frames = np.flatnonzero(valid)
    if not len(frames):
        return [(int(t), "no face") for t in np.unique(np.linspace(0, len(points) - 1, count).astype(int))]
    seen = points[frames]
    right, left = seen[:, EYE_OUTER_RIGHT], seen[:, EYE_OUTER_LEFT]
    iod = np.linalg.norm(left - right, axis=1)
    lips = pair_gap(seen, LIP_PAIRS) / iod
    lids = pair_gap(seen, LID_PAIRS_RIGHT + LID_PAIRS_LEFT) / iod
    turn = np.einsum("tc,tc->t", seen[:, 4] - (left + right) / 2, left - right) / iod**2
    chosen: dict[int, str] = {}
    for name, curve in (("mouth open", -lips), ("eyes closed", lids), ("turned right", turn), ("turned left", -turn)):
        if np.isfinite(curve).any():
            chosen.setdefault(int(frames[np.nanargmin(curve)]), name)
    # The rest lies in the middle of equal stretches of time, so that the whole clip is seen.
    for part in np.array_split(frames, max(0, count - len(chosen))) if len(chosen) < count else ():
        free = [int(t) for t in part if int(t) not in chosen]
        if free:
            chosen[free[len(free) // 2]] = ""
    return [(t, f"{t} {chosen[t]}".strip()) for t in sorted(chosen)][:count]


def pair_gap(points: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    """Return the mean distance `[T]` px between the two landmarks of each pair; absent pairs are left out."""
    upper, lower = points[:, [p[0] for p in pairs]], points[:, [p[1] for p in pairs]]
    distances = np.linalg.norm(upper - lower, axis=2)
    known = np.isfinite(distances)
    total = np.where(known, distances, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
