"""The square crop of a speaker's sources: `ingest` and `landmarks` read the same pictures, only at other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError
from models.heads.mediapipe_points import EYE_OUTER_LEFT, EYE_OUTER_RIGHT
from models.records import Clip
from tasks.assets import sha256_of
from tasks.media import FrameReader, read_frames_near
from tasks.places import Places

NEARLY_SQUARE = 1.02
SQUARE_MARGIN = 2.0  # side of the square about a face over its height; for ingest params may say otherwise
FACE_CENTRE_DOWN = 0.56  # of the crop's height: hair needs more room above than the chin below
SAMPLES = 10
SAME_FACE = 0.5  # of the eye distance: detections nearer than this are one face
SECOND_FACE_SIZE = 0.5  # of the first one's eye distance: smaller ones are pictures on a wall or people far behind


@dataclass(frozen=True)
class Crop:
    """A square of the upright picture, in its pixels."""

    left: int
    top: int
    side: int

    def cut(self, image: np.ndarray, size: int) -> np.ndarray:
        """Return the square `[size, size, 3]`, averaged over areas when it shrinks."""
        import cv2

        square = image[self.top : self.top + self.side, self.left : self.left + self.side]
        if self.side == size:
            return np.ascontiguousarray(square)
        return cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA if size < self.side else cv2.INTER_CUBIC)


def centre_crop(width: int, height: int) -> Crop:
    """Return the largest square in the middle."""
    side = min(width, height)
    return Crop((width - side) // 2, (height - side) // 2, side)


def is_square(width: int, height: int) -> bool:
    """Return whether a picture keeps its frame, being (nearly) square already."""
    return max(width, height) <= NEARLY_SQUARE * min(width, height)


def face_crop(boxes: np.ndarray, width: int, height: int, margin: float) -> Crop:
    """Return a square that holds the face in every sampled picture.

    Args:
        boxes: `[N, 4]` left, top, right, bottom of the face in pixels, brow to chin.
        width: of the picture.
        height: of the picture.
        margin: side of the square over the height of the face.
    """
    face_height = float(np.median(boxes[:, 3] - boxes[:, 1]))
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    side = round(min(max(margin * face_height, 1.3 * float((high - low).max())), width, height))
    centre = np.median((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0)
    left = min(max(0, round(float(centre[0]) - side / 2)), width - side)
    top = min(max(0, round(float(centre[1]) - side * FACE_CENTRE_DOWN)), height - side)
    return Crop(left, top, side)


def square_about_face(
    files: Sequence[tuple[Path, float]], shape: tuple[int, int], model: Path, margin: float
) -> Crop | None:
    """Return the square about the face in pictures that are not square themselves, None where no face is seen.

    Args:
        files: paths of recordings with their seconds, all with pictures of one size.
        shape: width and height of these, pixels.
        model: of MediaPipe's landmarker.
        margin: see `face_crop`.

    Raises:
        InputError: most of the pictures show two people.
    """
    from models.landmarks.mediapipe import face_finder

    with face_finder(model, faces=2) as finder:
        boxes = face_boxes(files, finder.find)
    return face_crop(boxes, *shape, margin) if len(boxes) else None


def face_boxes(files: Iterable[tuple[Path, float]], find: Callable[[np.ndarray], Any]) -> np.ndarray:
    """Return the boxes `[N, 4]` of the most prominent face in some pictures spread over the files.

    Args:
        files: paths with their seconds.
        find: gives the faces in a picture (`FaceFinder.find`), up to two of them.

    Raises:
        InputError: most of the pictures show two people; the square would show one of them, and both would be heard.
    """
    listed = list(files)
    each = max(1, SAMPLES // len(listed))
    boxes, seconds_with_two = [], []
    for path, seconds in listed:
        instants = (np.arange(each) + 0.5) / each * seconds
        for second, image in zip(instants, read_frames_near(path, instants), strict=True):
            faces = find(image) if image is not None else []
            for face in faces[:1]:
                boxes.append([*face.points.min(0), *face.points.max(0)])
            if two_faces(faces) and _eye_distance(faces[1]) > SECOND_FACE_SIZE * _eye_distance(faces[0]):
                seconds_with_two.append(f"{path.name} {second:.1f} s")
    if 2 * len(seconds_with_two) > len(boxes):
        raise InputError(
            f"{listed[0][0]}: two faces in {len(seconds_with_two)} of {len(boxes)} pictures looked at",
            f"a second face as large as the first was seen at {', '.join(seconds_with_two[:3])}",
            "use a recording of one person, or cut the picture so that only one is seen",
        )
    return np.array(boxes, np.float64).reshape(-1, 4)


def two_faces(faces: list[Any]) -> bool:
    """Return whether the detections are of two different faces."""
    if len(faces) < 2:
        return False
    apart = float(np.linalg.norm(faces[0].points.mean(0) - faces[1].points.mean(0)))
    return apart > SAME_FACE * _eye_distance(faces[0])


def _eye_distance(face: Any) -> float:
    return float(np.linalg.norm(face.points[EYE_OUTER_RIGHT] - face.points[EYE_OUTER_LEFT]))


def source_path(places: Places, speaker: str, file: str) -> Path:
    """Return where a source of a speaker lies.

    Raises:
        InputError: the record names a file outside the speaker's folder.
    """
    folder = places.raw_speaker(speaker)
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise InputError(f"{speaker}: the source {file!r} lies outside {folder}", "", "put it there")
    return folder / file


def clip_pictures(clip: Clip, places: Places, largest: int, threads: int = 0) -> Iterator[np.ndarray]:
    """Yield the pictures of a clip anew from its sources, up to `largest` pixels a side instead of the clip's size.

    Raises:
        InputError: a source is missing or is not the one that was ingested.
    """
    for source in clip.sources:
        path = source_path(places, clip.speaker, source["file"])
        crop = Crop(*source["crop"])
        reader = FrameReader(path, clip.fps, source["damaged"], math.inf, threads, exact=False)
        if sha256_of(path) != source["sha256"]:
            raise InputError(f"{path}: changed since it was ingested", "", "run ingest again: dvc repro")
        for image in reader:
            yield crop.cut(image, min(largest, crop.side))
        if reader.count != source["frames"]:
            raise InputError(f"{path}: gave {reader.count} pictures, {source['frames']} when it was ingested")
