"""The main road, whole: a tiny demo speaker through `dvc repro`, then through the Prefect flow, then spoken to."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYTHON_BIN = str(Path(sys.executable).parent)

# Small enough for minutes of CPU, large enough that every stage meets real input.
TINY = {
    "demo": {"seconds": 4.0, "size": 96},
    "ingest": {"size": 96},
    "tg_motion": {"steps": 40},
    "pose_refine": {"steps": 120},
    "tg_face": {"steps": 150},
    "tg_mouth": {"steps": 80},
    "tg_fuse": {"steps": 40},
}


def project(folder: Path) -> Path:
    """Copy what git tracks into `folder` and make the demo tiny."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        if name.startswith("tests/") or not (ROOT / name).is_file():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["drives"] = ["de_f"]
    for section, values in TINY.items():
        params[section] = {**params.get(section, {}), **values}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "tiny"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def call(folder: Path, *command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{PYTHON_BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "GAUSSTALK_ROOT": str(folder),
        "GAUSSTALK_ASSETS": "",
    }
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = project(tmp_path_factory.mktemp("demo"))
    done = call(folder, "-m", "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    yield folder


def rows(folder: Path) -> list[dict[str, object]]:
    done = call(folder, "-m", "flows.cli", "metrics", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_the_demo_gives_a_report_videos_and_numbers(demo: Path) -> None:
    report = (demo / "data/report/report.html").read_text()
    assert "data:video/mp4;base64," in report
    assert (demo / "data/preview/demo/render/logmel/result.mp4").stat().st_size > 2000
    names = {(row["variant"], row["metric"]) for row in rows(demo)}
    for wanted in [("full", "psnr"), ("wrong_audio", "psnr"), ("full", "lmd"), ("full", "r_open"), ("full", "r_eye")]:
        assert wanted in names


def test_a_second_run_runs_nothing(demo: Path) -> None:
    done = call(demo, "-m", "dvc", "repro")
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout


def test_the_flow_finds_everything_cached_then_runs_what_changed(demo: Path) -> None:
    done = call(demo, "-m", "flows.cli", "run", "demo")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Running stage" not in done.stdout + done.stderr
    (demo / "data/work/demo/tg_fuse/logmel/record.safetensors").unlink()
    params = yaml.safe_load((demo / "params.yaml").read_text())
    params["tg_fuse"]["steps"] = 30
    (demo / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    again = call(demo, "-m", "flows.cli", "run", "demo")
    text = again.stdout + again.stderr
    assert again.returncode == 0, text[-3000:]
    assert "tg_fuse" in text
    assert call(demo, "-m", "dvc", "status", "-q").returncode == 0


def test_the_head_says_sound_longer_than_its_clip(demo: Path) -> None:
    from tasks.media import probe

    sound = demo / "long.wav"
    subprocess.run(
        [sys.executable, "-c", LOOP, str(demo / "data/raw/drives/de_f/speech.wav"), str(sound)], check=True, timeout=60
    )
    done = call(demo, "-m", "flows.cli", "say", "demo", str(sound), "-o", str(demo / "out.mp4"))
    assert done.returncode == 0, done.stderr[-3000:]
    info = probe(demo / "out.mp4")
    assert info.audio is not None
    assert info.seconds > 10


LOOP = """
import sys, wave
with wave.open(sys.argv[1]) as source:
    parameters, data = source.getparams(), source.readframes(source.getnframes())
with wave.open(sys.argv[2], "wb") as target:
    target.setparams(parameters)
    target.writeframes(data * 3)
"""
