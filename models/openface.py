"""What OpenFace 2.x writes: one row a picture and face, with confidence, gaze and intensities of action units.

Builds differ in whether the header has spaces, in which columns there are, and in whether rows carry the number of a
face. Facts: the "Output Format" page of OpenFace's wiki (Baltrusaitis et al., OpenFace 2.0, FG 2018).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.action_units import UNIT_NAMES
from models.errors import InputError

Array = np.ndarray

LEAST_CONFIDENCE = 0.5
WIDEST_S = 0.1  # rows further apart tell nothing of what is between them
NEAR_FACE = 1.0  # of the face's width: a row whose landmarks are further from the tracked face is of somebody else
FULL_GAZE = np.radians(30.0)  # a gaze of 1
POINTS = 68
MAKE = "make it by: FeatureExtraction -f VIDEO -aus -gaze -2Dfp"


@dataclass(frozen=True)
class Rows:
    """The rows of one file in order of time; what a file does not have is NaN.

    Attributes:
        seconds: `[R]` since the first picture.
        good: `[R]` whether OpenFace trusts the row.
        face: `[R]` number of the face.
        centre: `[R, 2]` middle of the 68 landmarks, in pixels of the video.
        units: name -> `[R]` intensity 0..5.
        gaze: `[R, 2]` radians, to the picture's right and down, in the camera's frame.
    """

    seconds: Array
    good: Array
    face: Array
    centre: Array
    units: dict[str, Array]
    gaze: Array

    def __len__(self) -> int:
        return len(self.seconds)


def read_rows(text: str, name: str, frame_rate: float, needed: Sequence[str] = ()) -> Rows:
    """Parse a CSV of OpenFace.

    Args:
        text: of the file.
        name: of the file, for errors.
        frame_rate: of the video, for files without time stamps.
        needed: action units that must be there.

    Raises:
        InputError: it is no such file, lacks what is needed, or no row of it is trusted.
    """
    # Numbers need no quotes: one that is never closed would make a single row of all that follow.
    lines = csv.reader(io.StringIO(text.lstrip("\ufeff")), quoting=csv.QUOTE_NONE)
    try:
        table = [[cell.strip(' \t"') for cell in row] for row in lines]
    except csv.Error as error:
        raise InputError(f"{name}: no table of action units from OpenFace", str(error), MAKE) from error
    table = [row for row in table if any(row)]
    heads = table[0] if table else []
    if not {"timestamp", "frame"} & set(heads) or not any(head.startswith("AU") for head in heads):
        raise InputError(
            f"{name}: no table of action units from OpenFace",
            "its first line names neither 'timestamp' or 'frame' nor action units such as AU01_r",
            MAKE,
        )
    missing = [unit for unit in needed if f"{unit}_r" not in heads]
    if missing:
        raise InputError(
            f"{name}: no intensity of {', '.join(missing)}",
            "the head's motion field is trained on them",
            MAKE,
        )
    columns = _columns(table[1:], heads)
    count = len(table) - 1

    def column(head: str, otherwise: float) -> Array:
        return columns.get(head, np.full(count, otherwise))

    seconds = column("timestamp", np.nan)
    frame = column("frame", np.nan)
    if not np.nanmax(seconds, initial=0.0) > 0:  # single pictures have no clock
        seconds = (frame - np.nanmin(frame, initial=np.inf)) / frame_rate
    units = {unit: columns[f"{unit}_r"] for unit in UNIT_NAMES if f"{unit}_r" in columns}
    good = (column("success", 1.0) > 0.5) & (column("confidence", 1.0) >= LEAST_CONFIDENCE) & np.isfinite(seconds)
    for values in units.values():
        good &= np.isfinite(values)
    if not good.any():
        raise InputError(
            f"{name}: OpenFace saw no face in any of its {count} rows",
            f"success is 0 or confidence below {LEAST_CONFIDENCE:g} everywhere",
            "use footage of one face that looks to the camera, or action_units.source: builtin",
        )
    points = [[f"{axis}_{k}" for k in range(POINTS)] for axis in "xy"]
    known = all(head in columns for heads in points for head in heads)
    centre = [np.mean([columns[head] for head in heads], axis=0) for heads in points] if known else []
    order = np.argsort(np.where(np.isfinite(seconds), seconds, np.inf), kind="stable")
    gaze = np.stack([column("gaze_angle_x", np.nan), column("gaze_angle_y", np.nan)], axis=1)
    return Rows(
        seconds[order],
        good[order],
        column("face_id", 0.0)[order],
        np.stack(centre, axis=1)[order] if known else np.full((count, 2), np.nan),
        {unit: values[order] for unit, values in units.items()},
        gaze[order],
    )


def _columns(rows: list[list[str]], heads: list[str]) -> dict[str, Array]:
    """Return every column as numbers; what is missing or no number is NaN."""
    values = np.full((len(rows), len(heads)), np.nan)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row[: len(heads)]):
            try:
                values[r, c] = float(cell)
            except ValueError:
                continue  # "-nan(ind)" and the like
    values[~np.isfinite(values)] = np.nan
    return {head: values[:, c] for c, head in enumerate(heads)}


def of_face(rows: Rows, instants: Array, centres: Array, widths: Array) -> Rows:
    """Keep the rows of the face that is tracked.

    Where rows have landmarks, those near the tracked face are its; else those of the face that is seen most often.

    Args:
        rows: of all faces.
        instants: `[N]` seconds of frames in which the face is known.
        centres: `[N, 2]` of the face in those frames, in pixels of the video.
        widths: `[N]` of the face, likewise.
    """
    located = np.isfinite(rows.centre).all(axis=1)
    if located.any() and len(instants):
        there = [np.interp(rows.seconds, instants, values) for values in (*centres.T, widths)]
        apart = np.hypot(rows.centre[:, 0] - there[0], rows.centre[:, 1] - there[1]) / there[2]
        keep = np.where(located, apart, np.inf) <= NEAR_FACE
        # Of several rows of one picture, the nearest.
        rank = np.lexsort((np.where(keep, apart, np.inf), rows.seconds))
        first = np.ones(len(rank), bool)
        first[1:] = np.diff(rows.seconds[rank]) > 0
        keep &= np.isin(np.arange(len(rows)), rank[first])
    else:
        faces, counts = np.unique(rows.face[rows.good], return_counts=True)
        keep = rows.face == faces[np.argmax(counts)]
    return _chosen(rows, keep)


def _chosen(rows: Rows, keep: Array) -> Rows:
    units = {unit: values[keep] for unit, values in rows.units.items()}
    return Rows(rows.seconds[keep], rows.good[keep], rows.face[keep], rows.centre[keep], units, rows.gaze[keep])


def at(rows: Rows, instants: Array) -> tuple[dict[str, Array], Array, Array]:
    """Interpolate the trusted rows of one face at the instants `[T]` of frames, in seconds.

    Returns:
        Units -> `[T]`, gaze `[T, 2]` radians, and `[T]` whether they lie between trusted rows that follow each other;
        the values of other frames are NaN.
    """
    good = _chosen(rows, rows.good)
    if not len(good):
        nothing = np.full(len(instants), np.nan)
        return dict.fromkeys(rows.units, nothing), np.stack([nothing] * 2, axis=1), np.zeros(len(instants), bool)
    after = np.searchsorted(good.seconds, instants).clip(0, len(good) - 1)
    before = np.searchsorted(good.seconds, instants, side="right").clip(1, len(good)) - 1
    apart = np.abs(good.seconds[before] - instants) + np.abs(good.seconds[after] - instants)
    steps = np.diff(np.unique(rows.seconds[np.isfinite(rows.seconds)]))
    # Where a row between two good ones has failed, they are two steps apart.
    measured = apart <= min(1.5 * float(np.median(steps)) if len(steps) else 0.0, WIDEST_S)

    def values(curve: Array) -> Array:
        return np.where(measured, np.interp(instants, good.seconds, curve), np.nan)

    units = {unit: values(curve) for unit, curve in good.units.items()}
    return units, np.stack([values(axis) for axis in good.gaze.T], axis=1), measured


def gaze_of(angles: Array, world_to_camera: Array, train: Array) -> Array:
    """Return gaze `[T, 4]` 0..1 (down, up, right, left) from angles in the camera's frame, without the head's turn.

    Args:
        angles: `[T, 2]` radians, to the picture's right and down; NaN where unknown.
        world_to_camera: `[T, 4, 4]` pose of the head.
        train: `[T]` the frames whose median is straight ahead.
    """
    # Towards the camera is -z in the camera's frame.
    ray = np.stack([np.tan(angles[:, 0]), np.tan(angles[:, 1]), -np.ones(len(angles))], axis=1)
    head = np.einsum("tji,tj->ti", world_to_camera[:, :3, :3].astype(np.float64), ray)
    turned = np.stack([np.arctan2(head[:, 0], head[:, 2]), np.arctan2(head[:, 1], head[:, 2])], axis=1)
    known = np.isfinite(turned).all(axis=1)
    if not (known & train).any():
        return np.zeros((len(angles), 4))
    left, up = ((turned - np.median(turned[known & train], axis=0)) / FULL_GAZE).T
    return np.clip(np.stack([-up, up, -left, left], axis=1), 0, 1)
