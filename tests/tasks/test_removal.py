"""What removing a drive takes with it, and what it leaves; of speakers: test_registry.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.errors import UsageError
from tasks.media import write_wav
from tasks.params import read_yaml
from tasks.places import Keys, Places
from tasks.registry import add_drive
from tasks.removal import drive_belongings, remove_drive
from tasks.stage import DRIVE_STAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A project with the real params.yaml and dvc.yaml and two drives, `news` and `news2`, that two heads have said."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    places = Places(root)
    write_wav(tmp_path / "a.wav", (3000 * np.sin(np.arange(32000) / 9)).astype(np.int16))
    for drive in ("news", "news2"):
        add_drive(places, drive, tmp_path / "a.wav", "en", "synthetic")
        folders = [places.record("audio_drive", Keys(extractor="logmel", drive=drive))]
        folders += [places.record("drive_landmarks", Keys(drive=drive))]
        for speaker in ("ann", "news"):  # somebody is called like the drive
            keys = Keys(speaker=speaker, extractor="logmel", drive=drive)
            places_of = (places.record, places.preview, places.metrics)
            folders += [place(stage, keys) for place in places_of for stage in DRIVE_STAGES]
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / "made").write_text(drive)
    return places


def files(places: Places) -> set[str]:
    return {str(path.relative_to(places.root)) for path in places.root.rglob("*") if path.is_file()}


def test_a_removed_drive_leaves_nothing_and_the_others_stay(places: Places) -> None:
    killed = places.raw_drive("news").with_name(".news.new-4711")  # an addition that did not come to its end
    killed.mkdir()
    before = files(places)
    removed = remove_drive(places, "news")
    assert places.params in removed
    assert read_yaml(places.params)["drives"][-1:] == ["news2"]
    assert "news" not in read_yaml(places.params)["drives"]
    of_the_drive = {path for path in before if path.endswith(("/news/made", "/news/speech.wav", "drives/news.yaml"))}
    of_the_drive |= {path for path in before if path.startswith("data/work/drives/news/")}
    assert before - files(places) == of_the_drive
    assert {"data/drives/news2.yaml", "data/work/news/render_drive/logmel/news2/made"} <= files(places)
    assert not killed.exists()
    with pytest.raises(UsageError, match="no drive 'news'") as error:
        drive_belongings(places, "news")
    assert "news2" in error.value.why


def test_a_drive_that_a_stage_makes_is_not_removed(places: Places) -> None:
    with pytest.raises(UsageError, match="made by a stage"):
        remove_drive(places, "de_f")
    assert "de_f" in read_yaml(places.params)["drives"]


def test_removing_a_drive_asks_first(places: Places) -> None:
    environment = {**os.environ, "GAUSSTALK_ROOT": str(places.root), "PYTHONPATH": str(ROOT)}

    def call(answer: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", "remove-drive", "news", *words]
        return subprocess.run(command, env=environment, input=answer, capture_output=True, text=True, timeout=60)

    before = files(places)
    refused = call("n\n")
    assert refused.returncode != 0
    assert "data/raw/drives/news" in refused.stderr
    assert files(places) == before
    done = call("", "--yes")
    assert done.returncode == 0, done.stderr
    assert "removed data/drives/news.yaml" in done.stdout
    assert not places.raw_drive("news").exists()
