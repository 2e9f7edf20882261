"""Looks at a video before it becomes a speaker: what `gausstalk check` does. Keeps nothing, needs no consent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models.errors import InputError, UsageError
from models.heads.mediapipe_points import LANDMARK_COUNT
from tasks.assets import find_asset
from tasks.fitness import (
    Finding,
    PictureStatistics,
    face_figures,
    findings_of,
    picture_figures,
    sound_statistics,
    verdict_of,
)
from tasks.ingest import IngestParams
from tasks.landmarks import LandmarkParams
from tasks.media import FPS, SAMPLE_RATE, FrameReader, MediaInfo, probe, read_sound
from tasks.params import load_params
from tasks.places import Places
from tasks.progress import Progress
from tasks.sources import Crop, centre_crop, is_square, square_about_face, two_faces
from tasks.stage import threads
from tasks.words import counted

STATISTICS_EVERY = 5
WATCHED_FRAMES = 1500  # of a longer recording, so many are searched for a face, in stretches spread over it
STRETCH = 250
THUMBNAILS, THUMBNAIL_PX = 40, 128
REPEATED_LEVELS = 0.02  # mean change of grey levels at 32x32, below which a picture repeats the one before
UNEVEN_STEP = 0.2  # of the usual time from one picture to the next
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass
class Watched:
    """What was gathered from the pictures of a recording."""

    count: int  # of frames that are expected
    points: list[np.ndarray] = field(default_factory=list)  # of the square, enlarged to `size`
    looked: list[bool] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    small: list[np.ndarray] = field(default_factory=list)  # 32x32 grey
    thumbnails: list[tuple[int, np.ndarray]] = field(default_factory=list)
    statistics: PictureStatistics = field(default_factory=PictureStatistics)
    second_faces: int = 0


def check(places: Places, video: Path, picture: Path | None = None) -> dict[str, Any]:
    """Return verdict, findings and figures of a video; write a timeline of it to `picture`.

    Raises:
        InputError: the file is no video or cannot be decoded at all.
        MissingAssetError: the landmarker's model is not on this machine.
        UsageError: the picture cannot be written there.
    """
    if picture is not None and (picture.suffix.lower() not in PICTURES or not picture.absolute().parent.is_dir()):
        raise UsageError(
            f"{picture}: no place for a picture",
            f"its name must end in {', '.join(PICTURES)}, and its folder must exist",
            "gausstalk check VIDEO --picture OUT.png",
        )
    info = probe(video)
    model = find_asset(places, "face_landmarker")
    ingest = load_params(places.params, "ingest", IngestParams)
    marks = load_params(places.params, "landmarks", LandmarkParams)
    findings: list[Finding] = []
    crop = _crop(info, model, ingest.face_margin, findings)
    reader = FrameReader(video, FPS, True, ingest.max_seconds, threads(), exact=False)
    watched = _watch(reader, model, crop, ingest.size, marks.size)
    count = len(watched.looked)
    points = np.stack(watched.points)
    points[~np.array(reader.intact, bool)] = np.nan
    sound = _sound(info, reader, count, findings)
    cuts = _cuts(points, watched)
    notes = [*sorted(reader.remarks), *_lost(reader.intact)]
    if reader.note:
        fix = "copy or export it again; or set ingest.use_damaged to keep what comes before"
        findings.append(Finding("unfit", f"damaged: {reader.note}", fix))
    steps = np.array(reader.steps) if len(reader.steps) else np.ones(1)
    changes = np.array([np.abs(b - a).mean() for a, b in zip(watched.small, watched.small[1:], strict=False)])
    figures: dict[str, Any] = {
        "seconds": round(count / FPS, 2),
        "size": [info.width, info.height],
        "frame_rate": round(info.frame_rate, 3),
        "uneven_share": round(float((np.abs(steps / np.median(steps) - 1) > UNEVEN_STEP).mean()), 4),
        "repeated_share": round(float((changes < REPEATED_LEVELS).mean()), 4) if len(changes) else 0.0,
        "codec": info.video_codec,
        "sound": f"{info.sound_codec}, {info.sound_rate} Hz, {info.sound_channels} channels" if info.has_sound else "",
        "crop": [crop.left, crop.top, crop.side],
        "damaged_pictures": reader.intact.count(False),
        "watched_s": round(float(np.sum(watched.looked)) / FPS, 1),
        **picture_figures(watched.statistics, cuts, FPS),
        "second_face_share": round(watched.second_faces / max(1, sum(watched.looked)), 3),
        **face_figures(
            points,
            np.array(watched.looked),
            np.array(watched.closed),
            sound,
            cuts,
            FPS,
            min(marks.size, crop.side) / crop.side,
        ),
        **(sound_statistics(sound, SAMPLE_RATE) if len(sound) else {}),
    }
    source = {"file": video.name, "notes": notes, "frame_rate": info.frame_rate, "crop": figures["crop"]}
    findings += findings_of(figures, [source], FPS, ingest.size)
    findings.sort(key=lambda finding: finding.level != "unfit")
    result = {"video": str(video), "verdict": verdict_of(findings), "findings": [asdict(f) for f in findings]}
    result["figures"] = _plain(figures)
    if picture is not None:
        _draw(picture, result, watched, points, sound, cuts)
    return result


def _crop(info: MediaInfo, model: Path, margin: float, findings: list[Finding]) -> Crop:
    """Return the square that ingest would cut out."""
    shape = (info.width, info.height)
    middle = centre_crop(*shape)
    if is_square(*shape):
        return middle
    try:
        return square_about_face([(info.path, info.seconds)], shape, model, margin) or middle
    except InputError as error:  # two people in most pictures
        findings.append(Finding("unfit", error.what.partition(": ")[2] or error.what, error.fix))
        return middle


def _watch(reader: FrameReader, model: Path, crop: Crop, size: int, largest: int) -> Watched:
    """Go through all pictures: landmarks, brightness, sharpness, small copies."""
    from models.landmarks.mediapipe import FaceTracker

    expected = max(1, round(reader.info.seconds * FPS))
    watched = Watched(expected)
    progress = Progress(f"check {reader.path.name}", expected)
    side = min(largest, crop.side)
    with FaceTracker(model) as tracker:
        watching = False
        for t, image in enumerate(reader):
            square = crop.cut(image, side)
            look = _is_watched(t, expected)
            if look and not watching:
                tracker.restart()
            watching = look
            faces = tracker.next(square) if look else []
            face = faces[0] if faces else None
            watched.looked.append(look)
            watched.points.append(np.full((LANDMARK_COUNT, 2), np.nan, np.float32) if face is None else face.points)
            shut = [s for s, n in zip(face.scores, face.names, strict=True) if n.startswith("eyeBlink")] if face else []
            watched.closed.append(float(np.mean(shut)) if shut else float("nan"))
            watched.second_faces += two_faces(faces)
            if t % STATISTICS_EVERY == 0:
                watched.statistics.add(cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA))
            grey = cv2.cvtColor(cv2.resize(square, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
            watched.small.append(grey.astype(np.float32))
            if t >= len(watched.thumbnails) * expected / THUMBNAILS:
                small = cv2.resize(square, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
                watched.thumbnails.append((t, small))
            progress.update()
    progress.finish()
    return watched


def _is_watched(t: int, expected: int) -> bool:
    """Return whether a face is looked for in a frame: in all, or in stretches spread over a long recording."""
    if expected <= 1.5 * WATCHED_FRAMES:
        return True
    stretches = WATCHED_FRAMES // STRETCH
    return any(0 <= t - round((k + 0.5) / stretches * expected - STRETCH / 2) < STRETCH for k in range(stretches))


def _cuts(points: np.ndarray, watched: Watched) -> np.ndarray:
    from models.heads.flow import find_cuts

    return find_cuts(points, np.asarray(np.isfinite(points).all((1, 2))), watched.small)


def _sound(info: MediaInfo, reader: FrameReader, count: int, findings: list[Finding]) -> np.ndarray:
    if not info.has_sound:
        return np.zeros(0, np.int16)
    try:
        return read_sound(info.path, SAMPLE_RATE, reader.origin_s, round(count / FPS * SAMPLE_RATE))
    except InputError as error:
        findings.append(Finding("unfit", error.what.partition(": ")[2] or error.what, error.fix))
        return np.zeros(0, np.int16)


def _lost(intact: list[bool]) -> Iterator[str]:
    if not all(intact):
        count = counted(intact.count(False), "picture")
        yield f"blank or damaged: {count}, the first at {intact.index(False) / FPS:.1f} s"


def _plain(value: Any) -> Any:
    """Return figures with None for what is no number, as JSON wants it."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _draw(
    path: Path, result: dict[str, Any], watched: Watched, points: np.ndarray, sound: np.ndarray, cuts: np.ndarray
) -> None:
    from tasks.timeline import timeline

    frames = [small for _, small in watched.thumbnails]
    lines = [f"{Path(result['video']).name}: {result['verdict']}"]
    lines += [finding["what"] for finding in result["findings"]]
    drawn = timeline(
        frames, points, np.array(watched.looked), np.array(watched.closed), sound, cuts.tolist(), FPS, lines
    )
    suffix = path.suffix.lower()
    _, code = cv2.imencode(suffix, drawn[..., ::-1])
    path.write_bytes(code.tobytes())
