"""A project of drawn speakers that has been trained, rendered and evaluated, as far as records and files go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import drawn_face
import numpy as np
from saved_clip import save_clip

from models.records import TEST, TRAIN, HeadTrack, Landmarks, Masks, Rendering, Weights, store_path
from models.storage import FrameStore
from tasks.per_frame import write_per_frame
from tasks.places import Keys, Places
from tasks.scores import Scores

ROOT = Path(__file__).resolve().parents[2]
TEST_FROM = 70
LATE = 25  # frames by which the control with wrong sound is late


def store(folder: Path, name: str, frames: np.ndarray) -> FrameStore:
    folder.mkdir(parents=True, exist_ok=True)
    return FrameStore.create(store_path(folder, name), iter(frames), frames.shape[1:])


def blurred(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 0.6) for frame in frames])


def make(root: Path) -> Places:
    """Write speaker, records and params of a drawn speaker "ada" with a head that hears."""
    places = Places(root)
    (root / "data/speakers").mkdir(parents=True)
    (root / "data/speakers/ada.yaml").write_text("name: Ada\nbasis: synthetic\nsources: [a.mp4]\nlandmarks: truth\n")
    (root / "data/drives").mkdir()
    (root / "data/drives/de_f.yaml").write_text(
        "name: German voice\nbasis: synthetic\nlanguage: de\ngender: female\nsource: speech.wav\n"
    )
    shutil.copy(ROOT / "data/assets.toml", root / "data/assets.toml")
    frames, points = drawn_face.clip()
    count = len(frames)
    split = np.full(count, TRAIN, np.int8)
    split[TEST_FROM:] = TEST
    mouth = drawn_face.motion()["mouth"]
    sound = (np.repeat(mouth, 640) * 900 * np.sin(np.arange(count * 640) / 5)).astype(np.int16)

    folder = places.record("ingest", Keys("ada"))
    save_clip(folder, frames, sound=sound, split=split)
    folder = places.record("landmarks", Keys("ada"))
    present = ~np.isnan(points[0, :, 0])
    scores = np.zeros((count, 0), np.float32)
    Landmarks("truth", points, present, np.ones(count, bool), scores).save(_made(folder))
    folder = places.record("parse", Keys("ada"))
    labels = np.zeros(frames.shape[:3], np.uint8)
    labels[:, 20:80, 20:76] = 1
    Masks("drawn", store(folder, "labels", labels), np.ones(count, bool)).save(folder)
    save_track(places, points, index_of=np.flatnonzero(present))
    curves = {"step": [1.0, 2.0, 3.0], "loss": [0.3, 0.2, 0.1]}
    for phase in ("tg_motion", "tg_face", "tg_mouth", "tg_fuse"):
        quality = {"seconds": 2.0, "peak_memory_gb": 0.5, "face_gaussians": 400, "mouth_gaussians": 100}
        weights = Weights("drawn", phase, {}, {"x": np.zeros(1, np.float32)}, curves, quality)
        weights.save(_made(places.record(phase, Keys("ada", "logmel"))))
    untaught = Weights("sync_house", "none", {}, {}, {}, {"why": "too little material"})
    untaught.save(_made(places.record("sync_house", Keys())))
    index = np.arange(TEST_FROM, count, dtype=np.int32)
    still = drawn_face.clip(mouth=np.full(count, 2.0))[0][index]
    wrong = drawn_face.clip(mouth=np.roll(mouth, LATE))[0][index]
    render(places, index, full=frames[index], motion_off=still, mean_motion=still, wrong_audio=wrong)
    return places


def save_track(places: Places, points: np.ndarray, index_of: np.ndarray) -> None:
    """Write a head that looks straight into the camera, a metre away and a pixel a centimetre."""
    count = len(points)
    pose = np.diag([1.0, -1.0, -1.0, 1.0]).astype(np.float32)
    pose[2, 3] = 1.0
    camera = np.array([[100, 0, 48], [0, 100, 48], [0, 0, 1]], np.float32)
    flat = (points[0, index_of] - 48) * (0.01, -0.01)
    rest = np.concatenate([flat, np.zeros((len(index_of), 1))], 1).astype(np.float32)
    nothing = np.zeros((count, 0), np.float32)
    HeadTrack(
        "drawn",
        96,
        96,
        camera,
        np.repeat(pose[None], count, 0),
        np.ones(count, bool),
        np.zeros(1, np.float32),
        nothing,
        np.zeros((count, 0, 3), np.float32),
        index_of.astype(np.int32),
        rest,
        np.zeros(count, np.float32),
    ).save(_made(places.record("track", Keys("ada"))))


def render(places: Places, index: np.ndarray, **variants: np.ndarray) -> None:
    """Write the rendering of ada, slightly blurred as renderings are."""
    folder = places.record("render", Keys("ada", "logmel"))
    shutil.rmtree(folder, ignore_errors=True)
    stores = {name: store(folder, name, blurred(frames)) for name, frames in variants.items()}
    quality = {"milliseconds_a_frame": 12.0, "threads": 1}
    Rendering("drawn", list(stores), frame_index=index, quality=quality, **stores).save(folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def metrics_file(speaker: str, **change: Any) -> dict[str, Any]:
    """Return what evaluate writes for a head, in little."""
    keys = {"speaker": speaker, "method": "talking_gaussian", "extractor": "logmel", "split": "test", "drive": ""}
    told = (
        ("PSNR", "head", "full", 30.125, "dB", "higher"),
        ("PSNR", "mouth", "full", 27.5, "dB", "higher"),
        ("PSNR", "mouth", "wrong_audio", 25.25, "dB", "higher"),
        ("LMD", "face", "full", 0.8, "px", "lower"),
        ("LMD", "face", "constant_lips", 1.2, "px", "lower"),
        ("LMD", "face", "static", 1.2, "px", "lower"),
        ("r_open", "face", "full", 0.625, "1", "higher"),
    )
    rows = [
        {**keys, "metric": m, "region": r, "variant": v, "value": x, "unit": u, "better": b}
        for m, r, v, x, u, b in told
    ]
    bar = {
        **{key: keys[key] for key in ("speaker", "method", "extractor", "split")},
        **{"name": "lips | follow", "metric": "r_open", "region": "face", "variant": "full", "compare": "value"},
        **{"against": "", "against_is": "", "at_least": 0.4, "at_most": None, "unit": "1", "why": "", "blocks": 8},
        **{"value": 0.625, "low": 0.5, "high": 0.7, "ok": True},
    }
    absent = [{"metric": "r_eye", "region": "face", "variant": "full", "why": "the lids <never> move"}]
    about = {
        "speaker": speaker,
        "method": "talking_gaussian",
        "extractor": "logmel",
        "basis": "synthetic",
        "judge": "personal",
    }
    about |= {"split": "test: 60 of 130 frames", "seconds": 2.4, "size": "96 x 96", "device": "cpu", "preset": "small"}
    content = {"about": about, "rows": rows, "bars": [bar], "absent": absent, "definitions": {"LMD": "lip distance"}}
    return {**content, **change}


def write_frames(root: Path, speaker: str) -> None:
    """Write the table of frames and the galleries of one speaker, in little."""
    keys = {"speaker": speaker, "method": "talking_gaussian", "extractor": "logmel", "split": "test", "drive": ""}
    scores = Scores(keys)
    wave = np.sin(np.arange(25) / 3)
    gaps = np.stack([wave, np.cos(np.arange(25) / 3)], 1)
    for variant, shift in (("full", 0.0), ("wrong_audio", 3.0), ("static", 1.0)):
        scores.series["PSNR", "mouth", variant] = (27.5 - shift + wave)[:, None]
        scores.series["PSNR", "frame", variant] = (30.5 - shift + wave)[:, None]
    for name in ("r_open", "amplitude"):
        scores.series[name, "face", "full"] = gaps
    write_per_frame(_made(root / "data/metrics" / speaker / "evaluate/logmel"), scores, np.arange(70, 95), 25.0)
    scores.keys.update(split="drive", drive="de_f")
    scores.series = {("r_sound", "face", "full"): gaps}
    folder = _made(root / "data/metrics" / speaker / "evaluate_drive/logmel/de_f")
    write_per_frame(folder, scores, np.arange(25), 25.0)
    row = {**scores.keys, "metric": "r_sound", "region": "face", "variant": "full", "value": 0.25, "unit": "1"}
    drive = metrics_file(speaker, rows=[{**row, "better": "higher"}], bars=[], absent=[])
    drive["about"] |= {"drive": "de_f", "language": "de", "gender": "female"}
    (folder / "metrics.json").write_text(json.dumps(drive))
    folder = _made(root / "data/preview" / speaker / "evaluate/logmel")
    told = [{"frame": 75, "position": 5, "numbers": [21.5], "box": [0, 18, 30, 10]}]
    worst: list[dict[str, Any]] = [{"metric": "PSNR", "region": "mouth", "unit": "dB", "better": "higher", "same": []}]
    failures: list[dict[str, Any]] = [
        {"name": "blink missed", "words": "eyes", "metric": "r_eye", "region": "face", "count": None, "frames": []},
        {"name": "no face", "words": "none is found", "metric": "r_open", "region": "face", "count": 0, "frames": []},
        {"name": "specks", "words": "too many", "metric": "specks", "region": "head", "unit": "1", "count": 2}
        | {"file": "failed_specks.jpg", "size": [30, 28], "frames": [{**told[0], "numbers": [30, 4]}]},
    ]
    worst[0] |= {"file": "worst_PSNR_mouth.jpg", "size": [30, 28], "frames": told}
    content = {"worst": worst, "failures": failures, "tests": 25}
    (folder / "galleries.json").write_text(json.dumps(content))
    for name in ("worst_PSNR_mouth.jpg", "failed_specks.jpg"):
        cv2.imwrite(str(folder / name), np.full((28, 30, 3), 90, np.uint8))


def write_metrics(root: Path, speaker: str, **change: Any) -> None:
    """Write the metrics, curves and quality of one speaker."""
    folder = _made(root / "data/metrics" / speaker / "evaluate/logmel")
    (folder / "metrics.json").write_text(json.dumps(metrics_file(speaker, **change)))
    curves = {"step": [1, 10, 100], "loss": [0.5, 0.1, 0.02], "image": [0.4, 0.09, 0.01]}
    (folder / "curves.json").write_text(json.dumps({"training": [{"phase": "face", "curves": curves}]}))
    folder = _made(root / "data/metrics" / speaker / "quality")
    rows = [
        {"speaker": speaker, "stage": "track", "metric": "yaw", "value": 0.5, "unit": "deg", "better": "lower"}
        | {"bar": 0.4, "ok": False},
        {"speaker": speaker, "stage": "parse", "metric": "IoU", "value": None, "unit": "1", "better": "higher"}
        | {"bar": None, "ok": None, "why": "no truth"},
    ]
    (folder / "quality.json").write_text(json.dumps({"rows": rows, "verdicts": [f"{speaker}: only 4 s"]}))
