"""Rows of OpenFace for a clip: from a CSV that lies beside the footage, else by running FeatureExtraction.

The CSV of a source NAME.mp4 is data/raw/speakers/<id>/openface/NAME.csv, which is where
`FeatureExtraction -f NAME.mp4 -out_dir openface` writes it; one of any other name serves a speaker with one source.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError, MachineError, MissingAssetError
from models.heads.mediapipe_points import OVAL
from models.openface import at, of_face, read_rows
from models.records import Clip, Landmarks
from tasks.assets import sha256_of
from tasks.places import Places

log = logging.getLogger("gausstalk")
PROGRAM = "FeatureExtraction"
FLAGS = ("-aus", "-gaze", "-pose", "-2Dfp")
LARGEST_BYTES = 500_000_000
TOLD = 12  # lines of what the program said


def rows_of_clip(
    clip: Clip, landmarks: Landmarks, places: Places, needed: tuple[str, ...], minutes: float
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Return what OpenFace says of every frame of a clip.

    Returns:
        Intensities `[T]` of every unit that all sources have, angles of gaze `[T, 2]`, `[T]` whether they were
        measured, and for every source where its rows come from.

    Raises:
        InputError: a CSV is no such table, lacks a needed unit or shows no face; or FeatureExtraction failed.
        MissingAssetError: there is neither a CSV nor FeatureExtraction.
        MachineError: FeatureExtraction takes too long.
    """
    each, told = [], []
    for number, source in enumerate(clip.sources):
        text, about = _text_of(clip, number, places, minutes)
        rows = read_rows(text, about["file"], float(source.get("frame_rate", clip.fps)), needed)
        first, count = int(source.get("first_frame", 0)), int(source.get("frames", len(clip)))
        frames = np.arange(first, first + count)
        own = of_face(rows, *_face_in_source(clip, landmarks, frames, source))
        units, gaze, measured = at(own, (frames - first) / clip.fps)
        each.append((frames, units, gaze, measured))
        failed = int((~rows.good).sum())
        about |= {"rows": len(rows), "failed_rows": failed, "other_faces_rows": len(rows) - len(own)}
        told.append(about | {"measured_share": round(float(measured.mean()), 4)})
    names = [name for name in each[0][1] if all(name in units for _, units, _, _ in each)]
    result = {name: np.full(len(clip), np.nan) for name in names}
    angles, known = np.full((len(clip), 2), np.nan), np.zeros(len(clip), bool)
    for frames, units, gaze, measured in each:
        angles[frames], known[frames] = gaze, measured
        for name in names:
            result[name][frames] = units[name]
    return result, angles, known, told


def _face_in_source(
    clip: Clip, landmarks: Landmarks, frames: np.ndarray, source: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the seconds, middles and widths of the tracked face where it is known, in pixels of the source."""
    left, top, side = source["crop"]
    outline = landmarks.points[frames][:, list(OVAL)] * (side / clip.frames.shape[1]) + (left, top)
    known = landmarks.valid[frames] & np.isfinite(outline).all((1, 2))
    outline = outline[known]
    seconds = np.flatnonzero(known) / clip.fps
    if not len(outline):
        return seconds, np.empty((0, 2)), np.empty(0)
    return seconds, outline.mean(axis=1), np.ptp(outline[..., 0], axis=1)


def _text_of(clip: Clip, number: int, places: Places, minutes: float) -> tuple[str, dict[str, Any]]:
    source = clip.sources[number]
    folder = places.raw_speaker(clip.speaker) / "openface"
    path = folder / f"{Path(source['file']).stem}.csv"
    others = sorted(folder.glob("*.csv"))
    if not path.is_file() and len(clip.sources) == 1 and len(others) == 1:
        path = others[0]
    if path.is_file():
        about = {"file": path.name, "sha256": sha256_of(path), "made_by": "given", **_details(path)}
        return _read(path), about
    program = shutil.which(PROGRAM)
    if program is None:
        raise MissingAssetError(
            f"{clip.speaker}: no OpenFace table of {source['file']}",
            f"{path.relative_to(places.root)} does not exist, and no {PROGRAM} is on PATH; OpenFace's licence, for "
            "academic use only, forbids shipping it",
            f"run OpenFace 2.x: {PROGRAM} -f {source['file']} -out_dir {folder.relative_to(places.root)} "
            f"{' '.join(FLAGS)}; or set action_units.source: builtin",
        )
    return run_program(Path(program), places.raw_speaker(clip.speaker) / source["file"], minutes)


def run_program(program: Path, video: Path, minutes: float) -> tuple[str, dict[str, Any]]:
    """Let FeatureExtraction measure a video; return its CSV and what made it.

    Raises:
        InputError: it fails or writes no CSV; the message holds what it said.
        MachineError: it takes longer than `minutes` or cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="gausstalk-openface-") as name:
        folder = Path(name)
        command = [str(program), "-f", str(video.resolve()), "-out_dir", str(folder), "-of", "rows", *FLAGS]
        log.info("action_units: %s measures %s", program.name, video.name)
        said = folder / "said.txt"
        with said.open("wb") as output:
            code = _finished(command, folder, output.fileno(), minutes)
        words = " | ".join(said.read_text(encoding="utf-8", errors="replace").split("\n")[-TOLD:]).strip(" |")
        found = sorted(folder.rglob("*.csv"))
        if code or not found:
            raise InputError(
                f"{program}: " + (f"it ended with code {code}" if code else "it wrote no CSV"),
                words or "it said nothing",
                "run it by hand on the video; or set action_units.source: builtin",
            )
        path = next((path for path in found if path.stem == "rows"), found[0])
        about = {"file": f"{video.stem}.csv", "sha256": sha256_of(path), "made_by": str(program)}
        about |= {"program_sha256": sha256_of(program), "flags": " ".join(FLAGS), **_details(path)}
        return _read(path), about


def _finished(command: list[str], folder: Path, output: int, minutes: float) -> int:
    """Run a program to its end in a process group of its own, and end the whole group when time is up."""
    try:
        process = subprocess.Popen(  # noqa: S603 - a list of words, never a shell
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    except OSError as error:
        raise MachineError(f"{command[0]} cannot be started", str(error), "install OpenFace anew") from error
    try:
        return process.wait(minutes * 60)
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"{command[0]} has not finished after {minutes:g} minutes",
            "action_units.openface_minutes limits it",
            "raise that limit; or run it by hand and put its CSV beside the footage",
        ) from error
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read(path: Path) -> str:
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(
            f"{path}: {path.stat().st_size / 1e6:.0f} MB", "an hour of OpenFace's rows has 250 MB", "cut it"
        )
    return path.read_text(encoding="utf-8", errors="replace")


def _details(path: Path) -> dict[str, str]:
    """Return what OpenFace notes beside its CSV: which parts were asked for, and the camera it assumed."""
    beside = path.with_name(f"{path.stem}_of_details.txt")
    if not beside.is_file() or beside.stat().st_size > 10_000:
        return {}
    pairs = (line.partition(":") for line in beside.read_text(encoding="utf-8", errors="replace").splitlines())
    kept = {key.strip(): value.strip() for key, _, value in pairs if value and not key.startswith("Input")}
    return {"details": "; ".join(f"{key}: {value}" for key, value in kept.items())}
