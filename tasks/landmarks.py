"""478 face landmarks of every frame of a clip, gaps left open, and the cuts at which the face jumps."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from models.errors import InputError
from models.heads.mediapipe_points import BROW_RINGS, CURVES, EYE_OUTER_LEFT, EYE_OUTER_RIGHT, LANDMARK_COUNT, OVAL
from models.records import Clip, DemoTruth, Landmarks
from tasks.assets import find_asset
from tasks.params import Params
from tasks.people import mark_of
from tasks.progress import Progress
from tasks.sources import clip_pictures, two_faces
from tasks.stage import Context, Stage, main


class LandmarkParams(Params):
    """How faces are sought."""

    size: int = Field(512, ge=64, le=2048)  # largest pictures shown to the landmarker, decoded anew from the source
    min_found: float = Field(0.8, ge=0, le=1)  # share of frames that must show a face
    max_second_face: float = Field(0.1, ge=0, le=1)  # share of frames that may show two faces
    truth_noise_px: float = Field(1.0, ge=0)  # trembling added to the demo speaker's true landmarks
    seed: int = Field(5, ge=0)  # of that trembling


STAGE = Stage(
    name="landmarks", per=("speaker",), params=LandmarkParams, reads=("ingest",), gives=Landmarks, preview=True
)


def run(context: Context[LandmarkParams]) -> Landmarks:
    """Find the face in every frame.

    Raises:
        InputError: no face, too few frames with a face, or two faces too often; the message says when.
        MissingAssetError: the landmarker's model is not on this machine.
    """
    clip, speaker = context.read(Clip, "ingest"), context.speaker()
    found = _from_truth(clip, context) if speaker.landmarks == "truth" else _from_pictures(clip, context)
    _preview(clip, found, context.preview, mark_of(speaker.basis))
    return found


def _from_pictures(clip: Clip, context: Context[LandmarkParams]) -> Landmarks:
    """Track the face through every shot with MediaPipe."""
    from models.landmarks.mediapipe import FaceTracker

    params, model, count = context.params, find_asset(context.places, "face_landmarker"), len(clip)
    size, shots = clip.frames.shape[1], set(clip.cuts.tolist())
    points = np.full((count, LANDMARK_COUNT, 2), np.nan, np.float32)
    scores: list[np.ndarray | None] = [None] * count
    names: list[str] = []
    twofold = np.zeros(count, bool)
    progress = Progress(f"landmarks {clip.speaker}", count)
    with FaceTracker(model) as tracker, ThreadPoolExecutor(1) as beside:
        pictures = clip_pictures(clip, context.places, params.size, context.threads)
        for t, image in enumerate(_one_ahead(pictures, beside)):
            if t in shots:
                tracker.restart()
            faces = tracker.next(image)
            for face in faces[:1]:
                points[t] = face.points * (size / image.shape[0])
                scores[t], names = face.scores, face.names
            twofold[t] = two_faces(faces)
            progress.update()
    progress.finish()
    points[~clip.intact] = np.nan  # a ghost of a face may show on a damaged picture
    valid = np.asarray(np.isfinite(points).all((1, 2)))
    _check_found(clip, valid, params.min_found)
    _check_alone(clip, twofold, params.max_second_face)
    blendshapes = np.full((count, len(names)), np.nan, np.float32)
    for t in np.flatnonzero(valid):
        blendshapes[t] = scores[t]
    quality = {
        "second_face_frames": np.flatnonzero(twofold).tolist(),
        "size": min(params.size, *(s["crop"][2] for s in clip.sources)),
    }
    return _landmarks("mediapipe", clip, points, np.ones(LANDMARK_COUNT, bool), valid, blendshapes, names, quality)


def _one_ahead(pictures: Iterator[np.ndarray], beside: Executor) -> Iterator[np.ndarray]:
    """Yield the same pictures; the next one is made in another thread meanwhile."""
    coming = beside.submit(next, pictures, None)
    while (image := coming.result()) is not None:
        coming = beside.submit(next, pictures, None)
        yield image


def _from_truth(clip: Clip, context: Context[LandmarkParams]) -> Landmarks:
    """Take the demo speaker's own landmarks, made to tremble as if they had been measured."""
    truth = DemoTruth.load(context.places.raw_speaker(clip.speaker) / "truth")
    if len(truth.landmarks_px) != len(clip):
        raise InputError(
            f"{clip.speaker}: {len(clip)} frames, {len(truth.landmarks_px)} frames of true landmarks",
            "video and truth are not of one run",
            "run the stage that makes them again: dvc repro demo",
        )
    left, top, side = clip.sources[0]["crop"]
    random = np.random.default_rng(context.params.seed)
    noise = random.normal(0, context.params.truth_noise_px, truth.landmarks_px.shape)
    points = (truth.landmarks_px - (left, top)) * (clip.frames.shape[1] / side) + noise
    points[:, ~truth.present] = np.nan
    points[~clip.intact] = np.nan
    valid = np.asarray(np.isfinite(points[:, truth.present]).all((1, 2)))
    nothing = np.empty((len(clip), 0), np.float32)
    quality = {"noise_px": context.params.truth_noise_px}
    return _landmarks("truth", clip, points.astype(np.float32), truth.present, valid, nothing, [], quality)


def _landmarks(
    source: str,
    clip: Clip,
    points: np.ndarray,
    present: np.ndarray,
    valid: np.ndarray,
    blendshapes: np.ndarray,
    names: list[str],
    quality: dict[str, Any],
) -> Landmarks:
    from models.heads.flow import find_cuts, find_judder

    jumps = find_cuts(points, valid, clip.frames)
    cuts = np.union1d(clip.cuts, jumps).astype(int).tolist()
    judder = find_judder(points, valid, np.array(cuts, int))
    eye_distance = np.linalg.norm(points[valid, EYE_OUTER_RIGHT] - points[valid, EYE_OUTER_LEFT], axis=1)
    quality |= {
        "found_share": round(float(valid.mean()), 4),
        "longest_gap": max((end - begin for begin, end in _gaps(valid)), default=0),
        "eye_distance_px": round(float(np.median(eye_distance)), 2),
        "cuts_by_face": [int(cut) for cut in cuts if cut not in clip.cuts],
        "judder_period": judder.period if judder else 0,
    }
    if judder:
        quality["verdicts"] = [
            f"motion stutters every {judder.period} frames, as after a conversion of the frame rate; lips and sound "
            "cannot agree better than that"
        ]
    return Landmarks(source, points, present, valid, blendshapes, names, cuts, quality)


def _gaps(valid: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield begin and end (one past the last) of every stretch of frames without a face."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], valid, [True]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _check_found(clip: Clip, valid: np.ndarray, least: float) -> None:
    if not valid.any():
        raise InputError(
            f"{clip.speaker}: no face in any of the {len(valid)} frames",
            "the landmarker wants a face that looks roughly to the camera and fills an eighth of the height or more",
            f"look at data/preview/{clip.speaker}/ingest/strip.jpg; use a recording that shows the face",
        )
    if valid.mean() < least:
        gaps = list(_gaps(valid))
        longest = max(gaps, key=lambda gap: gap[1] - gap[0])
        raise InputError(
            f"{clip.speaker}: a face in only {int(valid.sum())} of {len(valid)} frames",
            f"{int((~valid).sum())} frames are without, the first at {_clock(gaps[0][0])}, the longest gap "
            f"from {_clock(longest[0])} to {_clock(longest[1])}",
            "cut those parts out of the recording, or lower landmarks.min_found",
        )


def _check_alone(clip: Clip, twofold: np.ndarray, most: float) -> None:
    if twofold.mean() > most:
        stretches = [f"{_clock(begin)} to {_clock(end)}" for begin, end in _gaps(~twofold)]
        raise InputError(
            f"{clip.speaker}: two faces in {100 * twofold.mean():.0f} % of the frames",
            f"a second face was seen from {', '.join(stretches[:3])}" + (", ..." if len(stretches) > 3 else ""),
            "use a recording of one person, or cut the picture so that only one is seen",
        )


def _clock(frame: int) -> str:
    return f"{frame / 25:.2f} s (frame {frame})"


def _preview(clip: Clip, found: Landmarks, folder: Path, mark: str) -> None:
    """Draw the landmarks on frames spread over the clip, among them the one with the widest open mouth."""
    from tasks.pictures import save_strip

    lips = np.linalg.norm(found.points[:, 13] - found.points[:, 14], axis=1)
    widest = int(np.nanargmax(np.where(found.valid, lips, -1)))
    indices = sorted({*np.linspace(0, len(clip) - 1, 8).round().astype(int).tolist()[:7], widest})
    tiles = [draw(clip.frames[t], found.points[t]) for t in indices]
    captions = [f"{t / clip.fps:.1f} s" + ("" if found.valid[t] else ", no face") for t in indices]
    save_strip(folder / "strip.jpg", tiles, mark, captions)


def draw(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return a picture twice as large with oval, brows, eyes and lips of `points [478, 2]` (pixels) drawn into it."""
    import cv2

    large = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    lines = [((90, 200, 90), OVAL, True), *(((230, 170, 60), brow, True) for brow in BROW_RINGS)]
    lines += [((240, 90, 90) if name.startswith("lip") else (80, 190, 255), c, False) for name, c in CURVES.items()]
    for colour, curve, closed in lines:
        line = points[list(curve)]
        line = line[np.isfinite(line).all(1)] * 2 - 0.5  # OpenCV counts from the middle of the first pixel
        if len(line) > 1:
            cv2.polylines(large, [np.round(line * 16).astype(np.int32)], closed, colour, 1, cv2.LINE_AA, 4)
    return large


if __name__ == "__main__":
    main(STAGE, run)
