"""OpenFace for a clip: its tables beside the footage, its program where it is installed, and their faults."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from saved_clip import save_clip

from models.errors import InputError, MachineError, MissingAssetError
from models.heads.mediapipe_points import OVAL
from models.records import Clip, Landmarks
from tasks.action_units import NEEDED
from tasks.openface import rows_of_clip
from tasks.places import Places

HEADS = "frame, face_id, timestamp, confidence, success, gaze_angle_x, gaze_angle_y, " + ", ".join(
    f"{unit}_r" for unit in NEEDED
)


def rows(seconds: float, rate: float, level: float) -> str:
    """A table whose AU45 is `level` plus the time in seconds."""
    times = np.arange(round(seconds * rate)) / rate
    units = ", ".join(["0.5"] * (len(NEEDED) - 1))
    return "\n".join(
        [HEADS, *(f"{k + 1}, 0, {t:.3f}, 0.95, 1, 0, 0, {units}, {level + t}" for k, t in enumerate(times))]
    )


@pytest.fixture
def project(tmp_path: Path) -> tuple[Places, Clip, Landmarks]:
    """A clip joined from two recordings, of 50 and 25 frames."""
    places = Places(tmp_path)
    raw = places.raw_speaker("ada")
    raw.mkdir(parents=True)
    sources = [
        {"file": "01.mp4", "first_frame": 0, "frames": 50, "frame_rate": 30.0, "crop": [10, 20, 64]},
        {"file": "02.mp4", "first_frame": 50, "frames": 25, "frame_rate": 25.0, "crop": [0, 0, 32]},
    ]
    for source in sources:
        (raw / str(source["file"])).write_bytes(b"a video")
    clip = save_clip(tmp_path / "clip", [np.zeros((32, 32, 3), np.uint8)] * 75, sources=sources)
    points = np.full((75, 478, 2), 10.0, np.float32)
    points[:, list(OVAL), 0] += np.linspace(0, 10, len(OVAL))
    valid = np.ones(75, bool)
    marks = Landmarks("test", points, np.ones(478, bool), valid, np.zeros((75, 0), np.float32))
    return places, clip, marks


def measure(project: tuple[Places, Clip, Landmarks], minutes: float = 1.0):
    places, clip, marks = project
    return rows_of_clip(clip, marks, places, NEEDED, minutes)


def program(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an executable FeatureExtraction first in PATH."""
    path = folder / "bin" / "FeatureExtraction"
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")


def test_every_source_has_its_own_table_and_its_own_clock(project) -> None:
    folder = project[0].raw_speaker("ada") / "openface"
    folder.mkdir()
    (folder / "01.csv").write_text(rows(2.0, 30, 0.0))
    (folder / "02.csv").write_text(rows(1.0, 25, 3.0))
    units, angles, measured, told = measure(project)
    assert measured.all()
    assert units["AU45"][:50] == pytest.approx(np.arange(50) / 25, abs=2e-3)
    assert units["AU45"][50:] == pytest.approx(3.0 + np.arange(25) / 25, abs=2e-3)
    assert angles.shape == (75, 2)
    assert [(entry["file"], entry["made_by"], entry["rows"]) for entry in told] == [
        ("01.csv", "given", 60),
        ("02.csv", "given", 25),
    ]


def test_a_table_that_ends_early_leaves_the_rest_unmeasured(project) -> None:
    folder = project[0].raw_speaker("ada") / "openface"
    folder.mkdir()
    (folder / "01.csv").write_text(rows(1.0, 30, 0.0))
    (folder / "02.csv").write_text(rows(1.0, 25, 3.0))
    units, _, measured, told = measure(project)
    assert measured[:25].all()
    assert not measured[28:50].any()
    assert np.isnan(units["AU45"][28:50]).all()
    assert told[0]["measured_share"] < 0.6


def test_the_program_is_run_on_each_source_and_written_down(project, tmp_path, monkeypatch) -> None:
    (tmp_path / "table.csv").write_text(rows(2.0, 30, 0.0))
    program(
        tmp_path,
        f"""echo "$@" >> {tmp_path}/asked.txt
while [ $# -gt 0 ]; do
  case "$1" in -out_dir) out="$2" ;; -of) name="$2" ;; esac
  shift
done
cp {tmp_path}/table.csv "$out/$name.csv"
printf 'Input:secret\\nCamera parameters:500,500,32,32\\nAUs: 1\\n' > "$out/${{name}}_of_details.txt"
""",
        monkeypatch,
    )
    units, _, measured, told = measure(project)
    assert measured.all()
    assert units["AU45"][50] == pytest.approx(0.0)
    asked = (tmp_path / "asked.txt").read_text().splitlines()
    assert len(asked) == 2
    assert f"-f {project[0].raw_speaker('ada') / '01.mp4'}" in asked[0]
    assert asked[0].endswith("-aus -gaze -pose -2Dfp")
    assert told[0]["flags"] == "-aus -gaze -pose -2Dfp"
    assert len(told[0]["program_sha256"]) == 64
    assert told[0]["details"] == "Camera parameters: 500,500,32,32; AUs: 1"
    out = asked[0].split("-out_dir ")[1].split()[0]
    assert not Path(out).exists()
    assert sorted(path.name for path in project[0].raw_speaker("ada").iterdir()) == ["01.mp4", "02.mp4"]


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("echo 'no model main_ceclm_general.txt' >&2; exit 3", InputError, "main_ceclm_general"),
        ("exit 0", InputError, "wrote no CSV"),
        ("sleep 60", MachineError, "not finished"),
    ],
)
def test_a_program_that_fails_says_why_and_never_hangs(project, tmp_path, monkeypatch, body, error, words) -> None:
    program(tmp_path, body + "\n", monkeypatch)
    with pytest.raises(error, match=words) as caught:
        measure(project, minutes=0.5 / 60)
    assert "FeatureExtraction" in str(caught.value)


def test_without_table_and_program_the_error_says_where_the_table_belongs(project, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingAssetError, match=r"openface/01\.csv") as error:
        measure(project)
    assert "-out_dir data/raw/speakers/ada/openface" in error.value.fix
