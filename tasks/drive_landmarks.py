"""Landmarks of whoever says a drive, where its file has a picture: heads can be held against their lips."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from pydantic import Field

from models.errors import InputError, MissingAssetError
from models.heads.mediapipe_points import LANDMARK_COUNT
from models.records import Landmarks
from tasks.assets import find_asset
from tasks.media import FPS, SAMPLE_RATE, FrameReader, has_picture, read_sound, sound_start
from tasks.params import Params
from tasks.people import DRIVE_SECONDS
from tasks.progress import Progress
from tasks.sources import SQUARE_MARGIN, centre_crop, is_square, square_about_face, two_faces
from tasks.stage import Context, Stage, main

STILL = 0.01  # standard deviation of a photo's lip gap over the eye distance: a talker's is 0.04 and more
NO_PICTURE = "the drive is sound alone: add-drive with a video of who says it"
log = logging.getLogger("gausstalk")


class DriveLandmarkParams(Params):
    """How the face of whoever says a drive is sought."""

    size: int = Field(512, ge=64, le=2048)  # largest pictures shown to the landmarker
    max_second_face: float = Field(0.1, ge=0, le=1)  # share of frames that may show two faces


STAGE = Stage(name="drive_landmarks", per=("drive",), params=DriveLandmarkParams, gives=Landmarks)


def run(context: Context[DriveLandmarkParams]) -> Landmarks:
    """Find the talker's face for every frame of the drive's sound; `quality["why"]` says why there is none.

    Raises:
        InputError: the recording is missing or damaged, or its sound is too long.
    """
    drive, name = context.drive(), str(context.keys.drive)
    folder = context.places.raw_drive(name)
    path = folder / drive.source
    count = round(len(read_sound(path, SAMPLE_RATE, max_seconds=DRIVE_SECONDS)) / SAMPLE_RATE * FPS)
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
        return _nobody(count, NO_PICTURE)
    try:
        return _seen(context, path, count)
    except MissingAssetError as error:
        why = f"{error.what}: {error.fix}, then dvc repro -f -s drive_landmarks@{name}, then gausstalk run"
    except InputError as error:
        why = error.what.removeprefix(f"{path}: ")
    log.warning("%s: no lips to hold heads against: %s", name, why)
    return _nobody(count, why)


def _seen(context: Context[DriveLandmarkParams], path: Path, count: int) -> Landmarks:
    """Follow the face through the pictures.

    Raises:
        MissingAssetError: the landmarker's model is not on this machine.
        InputError: nobody can be followed; the message says why.
    """
    import cv2

    from models.heads.flow import find_cuts
    from models.landmarks.mediapipe import FaceTracker
    from models.metrics.lips import lip_gap

    params, name = context.params, context.keys.drive
    model = find_asset(context.places, "face_landmarker")
    reader = FrameReader(path, FPS, True, DRIVE_SECONDS, context.threads, exact=False)
    info, start_s = reader.info, sound_start(path, DRIVE_SECONDS)
    shape = (info.width, info.height)
    square = None if is_square(*shape) else square_about_face([(path, info.seconds)], shape, model, SQUARE_MARGIN)
    square = square or centre_crop(*shape)
    points = np.full((count, LANDMARK_COUNT, 2), np.nan, np.float32)
    small: list[np.ndarray] = []
    first = twofold = 0
    progress = Progress(f"drive_landmarks {name}", count)
    with FaceTracker(model) as tracker:
        for t, image in enumerate(reader):
            # The drive's frame 0 is where its sound begins, which need not be where its picture does.
            frame = t + round((reader.origin_s - start_s) * FPS)
            if frame < 0:
                continue
            if frame >= count:
                break
            picture = square.cut(image, min(params.size, square.side))
            faces = tracker.next(picture)
            if faces and reader.intact[-1]:
                points[frame] = faces[0].points
            first = first if small else frame
            small.append(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA))
            twofold += two_faces(faces)
            progress.update()
    progress.finish()
    valid = np.asarray(np.isfinite(points).all((1, 2)))
    if twofold > params.max_second_face * len(small):
        share = 100 * twofold / len(small)
        raise InputError(f"two faces in {share:.0f} % of its pictures, and nobody says which one speaks")
    if not valid.any():
        raise InputError("no face is seen in its pictures")
    if np.nanstd(lip_gap(points)) < STILL:
        raise InputError("the lips in its pictures do not move: a photo, or somebody who listens")
    shown = slice(first, first + len(small))
    cuts = [first + int(cut) for cut in find_cuts(points[shown], valid[shown], small)]
    if cuts:
        log.warning(
            "%s: cuts at frames %s; heads are held against the lips of all shots, whoever they show", name, cuts
        )
    if reader.note:
        log.warning("%s: of its pictures %s", name, reader.note)
    return _record(points, valid, cuts, "", reader.note)


def _nobody(count: int, why: str) -> Landmarks:
    return _record(np.full((count, LANDMARK_COUNT, 2), np.nan, np.float32), np.zeros(count, bool), [], why, "")


def _record(points: np.ndarray, valid: np.ndarray, cuts: list[int], why: str, note: str) -> Landmarks:
    quality = {"found_share": round(float(valid.sum()) / max(1, len(valid)), 4), "why": why, "note": note}
    everywhere, nothing = np.ones(LANDMARK_COUNT, bool), np.empty((len(points), 0), np.float32)
    return Landmarks("mediapipe", points, everywhere, valid, nothing, cuts=cuts, quality=quality)


if __name__ == "__main__":
    main(STAGE, run)
