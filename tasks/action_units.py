"""Action units, blink and gaze of every frame, from blendshape scores where there are any, else from distances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from models.errors import InputError
from models.records import TRAIN, ActionUnits, Clip, HeadTrack, Landmarks
from tasks.params import Params
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from models.action_units import Units


class ActionUnitParams(Params):
    """What may be set."""

    # builtin: MediaPipe's scores, the fitted expression and distances between landmarks, whichever tells a unit best.
    # geometry: distances alone. openface: a CSV of OpenFace in data/raw/speakers/<id>/openface, or its program.
    source: Literal["builtin", "geometry", "openface"] = "builtin"
    openface_minutes: float = Field(60.0, gt=0)  # that OpenFace's program may take for one recording


STAGE = Stage(
    name="action_units",
    per=("speaker",),
    params=ActionUnitParams,
    reads=("ingest", "landmarks", "track"),
    gives=ActionUnits,
    preview=True,
)
NEEDED = ("AU01", "AU04", "AU05", "AU06", "AU07", "AU25", "AU45")  # by the motion field, and to rank frames
LEAST_MEASURED = 0.5  # share of frames


def run(context: Context[ActionUnitParams]) -> ActionUnits:
    """Measure action units and gaze.

    Raises:
        InputError: OpenFace's rows cannot be used.
        MissingAssetError: OpenFace is asked for, and neither its rows nor its program are here.
    """
    from models.action_units import from_blendshapes, from_geometry
    from models.face_curves import face_on

    clip = context.read(Clip, "ingest")
    landmarks = context.read(Landmarks, "landmarks")
    head = context.read(HeadTrack, "track")
    train = clip.split == TRAIN
    source, more = context.params.source, {}
    if source == "openface":
        units, more = _from_openface(context, clip, landmarks, head, train)
    else:
        faces = face_on(
            landmarks.points, head.world_to_camera, head.intrinsics, head.landmark_index, head.rest_landmarks
        )
        if source == "builtin" and landmarks.blendshape_names:
            units = from_blendshapes(
                np.nan_to_num(landmarks.blendshapes),
                landmarks.blendshape_names,
                faces,
                landmarks.valid,
                train,
                landmarks.cuts,
                dict(zip(head.expression_names, head.expression.T.astype(np.float64), strict=True)),
            )
        else:
            source = "geometry"
            units = from_geometry(faces, landmarks.valid, train, landmarks.cuts)
    quality = {**_quality(units, len(clip) / clip.fps), **more}
    result = ActionUnits(
        source=source,
        intensity=units.intensity,
        gaze=units.gaze,
        measured=units.measured,
        names=list(units.names),
        origins={name: vars(origin) for name, origin in units.origins.items()},
        quality=quality,
    )
    _preview(context, clip, landmarks, result)
    return result


def _from_openface(
    context: Context[ActionUnitParams], clip: Clip, landmarks: Landmarks, head: HeadTrack, train: np.ndarray
) -> tuple[Units, dict[str, Any]]:
    from models.action_units import from_intensities
    from models.openface import gaze_of
    from tasks.openface import rows_of_clip

    given, angles, measured, told = rows_of_clip(
        clip, landmarks, context.places, NEEDED, context.params.openface_minutes
    )
    if measured.mean() < LEAST_MEASURED:
        raise InputError(
            f"{clip.speaker}: OpenFace tells of only {100 * measured.mean():.0f} % of the frames",
            f"in {', '.join(str(entry['file']) for entry in told)}; is that of this footage, from its first frame on?",
            "run FeatureExtraction on the whole recording; or set action_units.source: builtin",
        )
    gaze = gaze_of(angles, head.world_to_camera, train)
    units = from_intensities(given, gaze, measured, train, landmarks.cuts, "OpenFace's regression")
    return units, {"openface": told}


def _quality(units: Units, seconds: float) -> dict[str, Any]:
    """Return how much was measured, how often the eyes close, and how AU25 and AU45 are distributed."""
    quality: dict[str, Any] = {
        "interpolated_frames": int((~units.measured).sum()),
        "mean": {name: float(value) for name, value in zip(units.names, units.intensity.mean(axis=0), strict=True)},
        "blinks_per_minute": 0.0,
    }
    for name in ("AU25", "AU45"):
        if name in units.names:
            curve = units.intensity[:, units.names.index(name)]
            levels = np.percentile(curve, [25, 50, 75, 95, 100])
            quality[f"{name}_levels"] = {
                f"p{p}": round(float(v), 3) for p, v in zip((25, 50, 75, 95, 100), levels, strict=True)
            }
            if name == "AU45":
                quality["blinks_per_minute"] = float(_blinks(curve) / max(seconds / 60, 1e-6))
    return quality


def _blinks(curve: np.ndarray) -> int:
    """Count how often AU45 rises beyond half of its range."""
    closed = curve > 2.5
    return int(np.count_nonzero(closed[1:] & ~closed[:-1])) + int(closed[:1].any())


GROUPS = (
    ("AU01", "AU02", "AU04"),
    ("AU45", "AU05", "AU07"),
    ("AU25", "AU26", "AU12", "AU20"),
)


def _preview(context: Context[ActionUnitParams], clip: Clip, landmarks: Landmarks, units: ActionUnits) -> None:
    """Draw some frames with their strongest units, and below a film of the clip with all curves under it."""
    from tasks.pictures import draw_curves, mark_of_clip, save_strip, telling_frames
    from tasks.timeline import film, runs_of

    tiles: list[np.ndarray] = []
    captions: list[str] = []
    for t, caption in telling_frames(landmarks.points, landmarks.valid):
        strongest = np.argsort(-units.intensity[t])[:3]
        tiles.append(clip.frames[t])
        captions.append(
            caption + ": " + " ".join(f"{units.names[i][2:]}={units.intensity[t, i]:.1f}" for i in strongest)
        )
    width = 4 * tiles[0].shape[1] + 18
    shades = runs_of(~units.measured)
    columns = dict(zip(units.names, units.intensity.T, strict=True))
    rows = [film(clip.frames, width)]
    for group in GROUPS:
        curves = {f"{name} {_trust(units, name)}": columns[name] for name in group if name in columns}
        if curves:
            rows.append(draw_curves(curves, width, 130, shades))
    gaze = {"gaze up - down": units.gaze[:, 1] - units.gaze[:, 0], "left - right": units.gaze[:, 3] - units.gaze[:, 2]}
    rows.append(draw_curves(gaze, width, 130, shades))
    save_strip(context.preview / "strip.jpg", [*tiles, *rows], mark_of_clip(clip), [*captions, *([""] * len(rows))])


def _trust(units: ActionUnits, name: str) -> str:
    """Return how far a unit can be trusted, as the pictures and the report write it."""
    origin = units.origins[name]
    return origin["level"] if origin["moves"] or origin["level"] == "absent" else f"{origin['level']}, still"


if __name__ == "__main__":
    main(STAGE, run)
