"""Landmarks of whoever says a drive, where its file has a picture: heads can be held against their lips."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError, MissingAssetError
from models.heads.mediapipe_points import LANDMARK_COUNT
from models.records import Landmarks
from tasks.assets import find_asset
from tasks.audio_drive import MAX_SECONDS
from tasks.landmarks import LandmarkParams
from tasks.media import FPS, SAMPLE_RATE, FrameReader, has_picture, read_sound, sound_start
from tasks.progress import Progress
from tasks.sources import centre_crop, is_square, square_about_face, two_faces
from tasks.stage import Context, Stage, main

MARGIN = 2.0  # side of the square that is looked at over the height of the face
NO_PICTURE = "the drive is sound alone: add-drive with a video of who says it"
log = logging.getLogger("gausstalk")

STAGE = Stage(name="drive_landmarks", per=("drive",), params=LandmarkParams, gives=Landmarks, section="landmarks")


def run(context: Context[LandmarkParams]) -> Landmarks:
    """Find the talker's face for every frame of the drive's sound; `quality["why"]` says why there is none.

    Raises:
        InputError: the recording is missing or damaged, or its sound is too long.
    """
    drive, name = context.drive(), str(context.keys.drive)
    folder = context.places.raw_drive(name)
    path = folder / drive.source
    count = round(len(read_sound(path, SAMPLE_RATE, max_seconds=MAX_SECONDS)) / SAMPLE_RATE * FPS)
    if drive.landmarks == "truth":
        truth = Landmarks.load(folder / "truth")
        if len(truth.points) != count:
            raise InputError(
                f"{name}: {count} frames of sound, {len(truth.points)} of true landmarks",
                "sound and truth are not of one run",
                "run the stage that makes them again: dvc repro demo",
            )
        return truth
    if not has_picture(path):
        return _record(np.full((count, LANDMARK_COUNT, 2), np.nan, np.float32), NO_PICTURE)
    points, why = _seen(context, path, count)
    if why:
        log.warning("%s: no lips to hold heads against: %s", name, why)
        points[:] = np.nan
    return _record(points, why)


def _seen(context: Context[LandmarkParams], path: Path, count: int) -> tuple[np.ndarray, str]:
    """Return points `[count, 478, 2]`, NaN where no face is seen, and why they cannot be used if so."""
    from models.landmarks.mediapipe import FaceTracker

    params, points = context.params, np.full((count, LANDMARK_COUNT, 2), np.nan, np.float32)
    looked = twofold = 0
    try:
        model = find_asset(context.places, "face_landmarker")
        reader = FrameReader(path, FPS, True, MAX_SECONDS, context.threads, exact=False)
        info, start_s = reader.info, sound_start(path)
        shape = (info.width, info.height)
        square = None if is_square(*shape) else square_about_face([(path, info.seconds)], shape, model, MARGIN)
        square = square or centre_crop(*shape)
        progress = Progress(f"drive_landmarks {context.keys.drive}", count)
        with FaceTracker(model) as tracker:
            for t, image in enumerate(reader):
                faces = tracker.next(square.cut(image, min(params.size, square.side)))
                # The drive's frame 0 is where its sound begins, which need not be where its picture does.
                frame = t + round((reader.origin_s - start_s) * FPS)
                if faces and reader.intact[-1] and 0 <= frame < count:
                    points[frame] = faces[0].points
                looked, twofold = looked + 1, twofold + two_faces(faces)
                progress.update()
        progress.finish()
    except MissingAssetError as error:
        return points, f"{error.what}: {error.fix}, then dvc repro -f -s drive_landmarks@{context.keys.drive}"
    except InputError as error:
        return points, error.what.removeprefix(f"{path}: ")
    if twofold > params.max_second_face * looked:
        return points, f"two faces in {100 * twofold / looked:.0f} % of its pictures, and nobody says which one speaks"
    if not np.isfinite(points[:, 0, 0]).any():
        return points, "no face is seen in its pictures"
    return points, ""


def _record(points: np.ndarray, why: str) -> Landmarks:
    valid = np.asarray(np.isfinite(points).all((1, 2)))
    quality: dict[str, Any] = {"found_share": round(float(valid.mean()), 4) if len(valid) else 0.0, "why": why}
    nothing = np.empty((len(points), 0), np.float32)
    return Landmarks("mediapipe", points, np.ones(LANDMARK_COUNT, bool), valid, nothing, quality=quality)


if __name__ == "__main__":
    main(STAGE, run)
