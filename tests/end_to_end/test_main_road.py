"""The main road, whole: a tiny demo speaker through `dvc repro`, then through the Prefect flow, then spoken to."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYTHON_BIN = str(Path(sys.executable).parent)

# Small enough for minutes of CPU, large enough that every stage meets real input.
TINY: dict[str, dict[str, Any]] = {
    "demo": {"seconds": 4.0, "drive_seconds": 2.0, "size": 96},
    "ingest": {"size": 96},
    "pose_refine": {"rounds": 1, "phase": {"steps": 100, "points": 500}},
    "tg_motion": {"phase": {"steps": 60}},
    "tg_face": {"phase": {"steps": 150, "points": 800}},
    "tg_mouth": {"phase": {"steps": 80, "points": 300}},
    "tg_fuse": {"phase": {"steps": 40}},
    "gt_motion": {"width": 32, "inner": 32, "phase": {"steps": 40, "frames": 20, "voices": 1}},
    "gt_renderer": {"gaussians": 900, "phase": {"steps": 80}},
    "gt_inpaint": {"width": 6, "levels": 2, "phase": {"steps": 30}},
    "evaluate": {"draws": 100},
}


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `change`, section by section."""
    nested = {k: merged(base.get(k, {}), v) if isinstance(v, dict) else v for k, v in change.items()}
    return {**base, **nested}


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
    (folder / "params.yaml").write_text(yaml.safe_dump(merged(params, TINY), sort_keys=False))
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "tiny"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def call(folder: Path, *command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{PYTHON_BIN}:{os.environ['PATH']}",
        # The copy is what DVC sees; what runs is the code beside this file, whose kernels are compiled already.
        "PYTHONPATH": str(ROOT),
        "PYTHONSAFEPATH": "1",
        "GAUSSTALK_ROOT": str(folder),
        "GAUSSTALK_ASSETS": "",
    }
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(tmp_path_factory.mktemp("demo"))
    done = call(folder, "-m", "dvc", "repro")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def rows(folder: Path) -> list[dict[str, object]]:
    done = call(folder, "-m", "flows.cli", "metrics", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def test_the_demo_gives_a_report_videos_and_numbers(demo: Path) -> None:
    report = (demo / "data/report/report.html").read_text()
    assert "data:video/mp4;base64," in report
    assert (demo / "data/preview/demo/render/logmel/result.mp4").stat().st_size > 2000
    names = {(row.get("variant"), row["metric"]) for row in rows(demo)}
    for wanted in [("full", "PSNR"), ("wrong_audio", "PSNR"), ("full", "LMD"), ("full", "r_open"), ("full", "r_eye")]:
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
    params = yaml.safe_load((demo / "params.yaml").read_text())
    params["tg_fuse"]["phase"]["steps"] = 30
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
    assert info.has_sound
    assert info.seconds > 5.5  # longer than the clip of 4 s


def test_one_word_makes_the_head_by_the_other_method(demo: Path) -> None:
    done = call(demo, "-m", "flows.cli", "run", "demo", "--method", "gaussiantalker")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    assert yaml.safe_load((demo / "params.yaml").read_text())["gaussian_talkers"] == ["demo"]
    assert "gt_evaluate_drive" in text
    assert "tg_fuse" not in text  # the first method's head is left as it is
    assert call(demo, "-m", "dvc", "status", "-q").returncode == 0
    found = {(row["metric"], row["method"], row.get("drive", ""), row["variant"]) for row in rows(demo)}
    for metric, drive, wrong in (("LMD", "", "wrong_audio"), ("r_sound", "de_f", "wrong_sound")):
        assert {(metric, method, drive, v) for method in METHODS for v in ("full", wrong)} <= found
    table = (demo / "data/tables/gaussian_talker_table_3.md").read_text()
    assert all(f"{title} (ours), logmel" in table for title in ("TalkingGaussian", "GaussianTalker"))
    report = (demo / "data/report/report.html").read_text()
    assert all(f"demo / {method} / logmel" in report for method in METHODS)
    compared = call(demo, "-m", "flows.cli", "compare", *(f"demo/{method}/logmel" for method in METHODS), "--json")
    assert compared.returncode == 0, compared.stderr[-3000:]
    assert {row["metric"] for row in json.loads(compared.stdout)["rows"]} >= {"PSNR", "LMD", "fps", "training_time"}
    sound, video = demo / "data/raw/drives/de_f/speech.wav", demo / "gt.mp4"
    done = call(demo, "-m", "flows.cli", "say", "demo", str(sound), "-o", str(video), "--method", "gaussiantalker")
    assert done.returncode == 0, done.stderr[-3000:]
    assert video.stat().st_size > 2000


METHODS = ("talking_gaussian", "gaussian_talker")
LOOP = """
import sys, wave
with wave.open(sys.argv[1]) as source:
    parameters, data = source.getparams(), source.readframes(source.getnframes())
with wave.open(sys.argv[2], "wb") as target:
    target.setparams(parameters)
    target.writeframes(data * 3)
"""
