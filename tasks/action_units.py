"""Action units, blink and gaze of every frame, from blendshape scores where there are any, else from distances."""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.errors import UsageError
from models.records import TRAIN, ActionUnits, Clip, HeadTrack, Landmarks
from tasks.params import Params
from tasks.stage import Context, Stage, main


class ActionUnitParams(Params):
    """What may be set."""

    # blendshapes: MediaPipe's scores. geometry: distances between landmarks. auto: blendshapes where there are any.
    source: Literal["auto", "blendshapes", "geometry"] = "auto"


STAGE = Stage(
    name="action_units",
    per=("speaker",),
    params=ActionUnitParams,
    reads=("ingest", "landmarks", "track"),
    gives=ActionUnits,
    preview=True,
)


def run(context: Context[ActionUnitParams]) -> ActionUnits:
    """Measure action units and gaze.

    Raises:
        UsageError: blendshapes are asked for and the landmarks have none.
    """
    from models.action_units import face_on, from_blendshapes, from_geometry

    clip = context.read(Clip, "ingest")
    landmarks = context.read(Landmarks, "landmarks")
    head = context.read(HeadTrack, "track")
    faces = face_on(landmarks.points, head.world_to_camera, head.intrinsics, head.landmark_index, head.rest_landmarks)
    train = clip.split == TRAIN
    source = context.params.source
    if source == "auto":
        source = "blendshapes" if landmarks.blendshape_names else "geometry"
    if source == "blendshapes" and not landmarks.blendshape_names:
        raise UsageError(
            f"{clip.speaker}: no blendshapes in its landmarks",
            f"landmarks from {landmarks.source} have none",
            "set action_units.source to auto or geometry",
        )
    if source == "blendshapes":
        scores = np.nan_to_num(landmarks.blendshapes)
        units = from_blendshapes(scores, landmarks.blendshape_names, faces, landmarks.valid, train, landmarks.cuts)
    else:
        units = from_geometry(faces, landmarks.valid, train, landmarks.cuts)
    blink = units.intensity[:, units.names.index("AU45")] if "AU45" in units.names else np.zeros(len(clip))
    quality = {
        "interpolated_frames": int(units.interpolated.sum()),
        "blinks_per_minute": float(_blinks(blink) / max(len(clip) / clip.fps / 60, 1e-6)),
        "mean": {name: float(value) for name, value in zip(units.names, units.intensity.mean(axis=0), strict=True)},
    }
    result = ActionUnits(
        source=source, intensity=units.intensity, gaze=units.gaze, names=list(units.names), quality=quality
    )
    _preview(context, clip, landmarks, result)
    return result


def _blinks(curve: np.ndarray) -> int:
    """Count how often AU45 rises beyond half of its range."""
    closed = curve > 2.5
    return int(np.count_nonzero(closed[1:] & ~closed[:-1])) + int(closed[:1].any())


def _preview(context: Context[ActionUnitParams], clip: Clip, landmarks: Landmarks, units: ActionUnits) -> None:
    """Draw some frames with their strongest units, and all curves below."""
    from tasks.pictures import draw_curves, mark_of_clip, save_strip, telling_frames

    tiles: list[np.ndarray] = []
    captions: list[str] = []
    for t, caption in telling_frames(landmarks.points, landmarks.valid):
        strongest = np.argsort(-units.intensity[t])[:3]
        tiles.append(clip.frames[t])
        captions.append(
            caption + ": " + " ".join(f"{units.names[i][2:]}={units.intensity[t, i]:.1f}" for i in strongest)
        )
    width = 4 * tiles[0].shape[1] + 18
    gaps = np.flatnonzero(np.diff(np.concatenate([[True], landmarks.valid, [True]]).astype(np.int8)))
    shades = list(zip(gaps[::2].tolist(), gaps[1::2].tolist(), strict=True))
    columns = dict(zip(units.names, units.intensity.T, strict=True))
    groups = (
        ("AU01", "AU02", "AU04"),
        ("AU45", "AU05", "AU07"),
        ("AU25", "AU26", "AU12", "AU20"),
    )
    for group in groups:
        curves = {name: columns[name] for name in group if name in columns}
        if curves:
            tiles.append(draw_curves(curves, width, 130, shades))
            captions.append("")
    gaze = {"gaze up - down": units.gaze[:, 1] - units.gaze[:, 0], "left - right": units.gaze[:, 3] - units.gaze[:, 2]}
    tiles.append(draw_curves(gaze, width, 130, shades))
    captions.append("")
    save_strip(context.preview / "strip.jpg", tiles, mark_of_clip(clip), captions)


if __name__ == "__main__":
    main(STAGE, run)
