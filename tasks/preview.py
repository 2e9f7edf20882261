"""One picture of what a stage makes of a speaker, in seconds: what `gausstalk preview` does.

A few pictures of the footage become a clip of its own, the stages themselves run on it in a folder of their own, and
only the picture stays. Neither data/work nor anything that DVC knows is touched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from models.errors import InputError, UsageError
from models.records import TRAIN, Clip, DemoTruth, HeadTrack, Landmarks, Layers, Masks, store_path
from models.storage import FrameStore
from tasks import layers, parse, track
from tasks.assets import find_asset
from tasks.head_models import load_head_model, posed_landmarks, project
from tasks.ingest import IngestParams, crops_of
from tasks.landmarks import LandmarkParams
from tasks.media import FPS, SAMPLE_RATE, FrameReader, probe, read_frames_near
from tasks.params import load_params
from tasks.people import Speaker, load_speaker, mark_of
from tasks.pictures import draw_labels, draw_mesh, draw_points, over_checkerboard, save_strip
from tasks.places import Keys, Places
from tasks.private import private_folder
from tasks.sources import Crop, source_path
from tasks.stage import execute, threads

StageName = Literal["parse", "track", "layers"]
PICTURES = 16  # that colours and the face's shape are learnt from
FIRST_SECONDS = 10.0  # in which the first face is sought
CAPTIONS = {
    "parse": ("frame", "labels", "head alone"),
    "track": ("frame", "fitted mesh", "its landmarks (red) on the measured ones (green)"),
    "layers": ("frame", "torso and neck", "the scene without the head"),
}


@dataclass(frozen=True)
class _Sample:
    """A picture cut to the clip's square, and its landmarks `[478, 2]` in pixels of it."""

    frame: np.ndarray
    points: np.ndarray
    scores: np.ndarray
    names: list[str]


def preview(places: Places, speaker: str, stage: StageName, out: Path | None = None) -> Path:
    """Write a picture of what `stage` makes of the first frame with a face; return where it lies.

    Raises:
        UsageError: there is no such speaker, or the picture cannot be written there.
        ConsentError: there is no valid basis for using this person's likeness.
        InputError: the footage cannot be read or shows no face.
        MissingAssetError: a model that the stage needs is not on this machine.
    """
    path = out or places.root / ".work" / "preview" / f"{speaker}.{stage}.jpg"
    if path.suffix.lower() not in (".jpg", ".jpeg") or (out is not None and not path.absolute().parent.is_dir()):
        why = "its name must end in .jpg, and its folder must exist"
        raise UsageError(
            f"{path}: no place for a picture", why, f"gausstalk preview {speaker} --stage {stage} -o OUT.jpg"
        )
    record = load_speaker(places, speaker)
    size = load_params(places.params, "ingest", IngestParams).size
    samples, crop = _samples(places, speaker, record, size)
    with _workshop(places) as own:
        keys = Keys(speaker=speaker)
        clip, marks = _records(own, keys, record, samples, crop)
        tiles = [clip.frames[0], *_TILES[stage](own, keys, clip, marks)]
    captions = list(CAPTIONS[stage])
    save_strip(path, [_large(tile) for tile in tiles], mark_of(record.basis), captions, columns=3)
    return path


def _samples(places: Places, speaker: str, record: Speaker, size: int) -> tuple[list[_Sample], Crop]:
    """Return the first picture with a face and some that are spread over the first recording."""
    file = record.sources[0]
    info = probe(source_path(places, speaker, file))
    margin = load_params(places.params, "ingest", IngestParams).face_margin
    crops, _ = crops_of([info], record, places, margin)
    crop = crops[0]
    if record.landmarks == "truth":
        return _true_samples(places, speaker, info.path, crop, size), crop
    from models.landmarks.mediapipe import face_finder

    largest = load_params(places.params, "landmarks", LandmarkParams).size
    spread = (np.arange(PICTURES - 1) + 0.5) / (PICTURES - 1) * info.seconds
    found: list[_Sample] = []
    with face_finder(find_asset(places, "face_landmarker"), scores=True) as finder:

        def look(image: np.ndarray) -> bool:
            shown = crop.cut(image, min(largest, crop.side))
            face = next(iter(finder.find(shown)), None)
            if face is not None:
                points = face.points * (size / shown.shape[0])
                found.append(_Sample(crop.cut(image, size), points, face.scores, face.names))
            return face is not None

        for t, image in enumerate(FrameReader(info.path, FPS, True, float("inf"), threads())):
            if (t % 5 == 0 and look(image)) or t > FIRST_SECONDS * FPS:
                break
        for image in read_frames_near(info.path, spread):
            if image is not None:
                look(image)
    if len(found) < 2:
        raise InputError(
            f"{speaker}: no face in the pictures that were looked at",
            f"{PICTURES} of {file}, and its first {FIRST_SECONDS:g} s",
            f"gausstalk check {info.path}",
        )
    return found, crop


def _true_samples(places: Places, speaker: str, path: Path, crop: Crop, size: int) -> list[_Sample]:
    """Return pictures of a computed speaker with the landmarks that are known of it."""
    truth = DemoTruth.load(places.raw_speaker(speaker) / "truth")
    chosen = set(np.linspace(0, len(truth.landmarks_px) - 1, PICTURES).round().astype(int).tolist())
    samples: list[_Sample] = []
    for t, image in enumerate(FrameReader(path, FPS)):
        if t in chosen:
            points = (truth.landmarks_px[t] - (crop.left, crop.top)) * (size / crop.side)
            samples.append(_Sample(crop.cut(image, size), points, np.empty(0, np.float32), []))
    return samples


@contextmanager
def _workshop(places: Places) -> Iterator[Places]:
    """Give a private project that sees the real one's params, speakers and assets, and clean up."""
    with private_folder(places) as root:
        (root / "data").mkdir()
        for name in ("params.yaml", "data/assets.toml", "data/assets", "data/speakers", "data/raw"):
            if (places.root / name).exists():
                (root / name).symlink_to(places.root / name)
        yield Places(root)


def _records(own: Places, keys: Keys, record: Speaker, samples: list[_Sample], crop: Crop) -> tuple[Clip, Landmarks]:
    """Write the pictures as a clip whose every frame is a shot of its own, and their landmarks."""
    count, size = len(samples), samples[0].frame.shape[0]
    cuts = np.arange(1, count, dtype=np.int32)
    folder = own.record("ingest", keys)
    store = FrameStore.create(store_path(folder, "frames"), (s.frame for s in samples), (size, size, 3))
    source: dict[str, Any] = {"file": record.sources[0], "first_frame": 0, "frames": count, "frame_rate": FPS}
    source |= {"crop": [crop.left, crop.top, crop.side], "notes": []}
    clip = Clip(
        speaker=str(keys.speaker),
        basis=record.basis,
        fps=FPS,
        sample_rate=SAMPLE_RATE,
        frames=store,
        sound=np.zeros(round(count / FPS * SAMPLE_RATE), np.int16),
        cuts=cuts,
        split=np.full(count, TRAIN, np.int8),
        intact=np.ones(count, bool),
        sources=[source],
    )
    clip.save(folder)
    points = np.stack([s.points for s in samples]).astype(np.float32)
    scores = np.stack([s.scores for s in samples]).astype(np.float32)
    present = np.asarray(np.isfinite(points).all((0, 2)))
    landmarks = Landmarks(
        source=record.landmarks,
        points=points,
        present=present,
        valid=np.ones(count, bool),
        blendshapes=scores,
        blendshape_names=samples[0].names,
        cuts=cuts.tolist(),
    )
    landmarks.save(own.record("landmarks", keys))
    return clip, landmarks


def _parse(own: Places, keys: Keys, clip: Clip, landmarks: Landmarks) -> list[np.ndarray]:
    from models.parsing.labels import head, inside_mouth

    labels = Masks.load(execute(parse.STAGE, parse.run, keys, own)).labels[0]
    frame = clip.frames[0]
    alone = np.where((head(labels) | inside_mouth(labels))[..., None], frame, np.array([60, 200, 60], np.uint8))
    return [draw_labels(frame, labels), alone]


def _track(own: Places, keys: Keys, clip: Clip, landmarks: Landmarks) -> list[np.ndarray]:
    fit = HeadTrack.load(execute(track.STAGE, track.run, keys, own))
    model = load_head_model(own, load_speaker(own, str(keys.speaker)).head_model)
    faces = model.triangles
    if "face" in model.regions:
        first, end = model.regions["face"]
        faces = faces[((faces >= first) & (faces < end)).all(axis=1)]
    large = _large(clip.frames[0])
    factor = large.shape[0] / clip.frames.shape[1]
    vertices = project(model.vertices(fit.identity, fit.expression[0]), fit, 0)
    mesh = draw_mesh(large, factor * vertices, faces, opacity=0.2)
    dots = draw_points(large, factor * landmarks.points[0, fit.landmark_index], (60, 220, 60), 1)
    return [mesh, draw_points(dots, factor * project(posed_landmarks(model, fit, 0), fit, 0), (255, 40, 40), 1)]


def _layers(own: Places, keys: Keys, clip: Clip, landmarks: Landmarks) -> list[np.ndarray]:
    execute(parse.STAGE, parse.run, keys, own)
    found = Layers.load(execute(layers.STAGE, layers.run, keys, own))
    behind = np.round(found.behind(0) * 255).astype(np.uint8)
    return [over_checkerboard(found.torso[0]), behind]


_TILES = {"parse": _parse, "track": _track, "layers": _layers}


def _large(tile: np.ndarray) -> np.ndarray:
    """Return a picture at 512 pixels a side."""
    return tile if tile.shape[0] >= 512 else cv2.resize(tile, (512, 512), interpolation=cv2.INTER_CUBIC)
