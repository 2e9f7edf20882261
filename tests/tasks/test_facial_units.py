"""Action units of renderings: on the truth's scale, and by OpenFace where it is installed."""

import os
import stat
from pathlib import Path

import evaluated_project
import numpy as np
import pytest

from models.action_units import UNIT_NAMES
from models.metrics import all_metrics
from models.records import Clip, HeadTrack, Landmarks, Rendering
from tasks.comparing import Pairs, compare_points
from tasks.facial_units import compare_openface, compare_units, units_of
from tasks.measuring import rendered_stores
from tasks.places import Keys, Places
from tasks.scores import Scores

KEYS = {"speaker": "ada", "method": "drawn", "extractor": "logmel", "split": "test", "drive": ""}
OPENFACE = [metric for metric in all_metrics().values() if metric.compares == "openface"]
OWN = [metric for metric in all_metrics().values() if metric.compares == "units"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return evaluated_project.make(tmp_path_factory.mktemp("project"))


@pytest.fixture
def pairs(places: Places) -> Pairs:
    rendering = Rendering.load(places.record("render", Keys("ada", "logmel")))
    frames = rendering.frame_index[:20]
    return Pairs(Clip.load(places.record("ingest", Keys("ada"))), frames, np.arange(20))


def test_lips_that_stay_shut_are_an_error_of_the_lower_face_alone(places: Places, pairs: Pairs) -> None:
    head = HeadTrack.load(places.record("track", Keys("ada")))
    true = Landmarks.load(places.record("landmarks", Keys("ada"))).points[pairs.frames]
    shut = true.copy()
    shut[:, evaluated_project.drawn_face.LIP_POINTS] = true[:1, evaluated_project.drawn_face.LIP_POINTS]
    own, same = units_of(true, true, pairs, head)
    np.testing.assert_allclose(own, same)
    told = {name for name, column in zip(UNIT_NAMES, own.T, strict=True) if not np.isnan(column).all()}
    assert "AU25" in told
    assert "AU14" not in told
    scores = Scores(dict(KEYS))
    points = {"truth": true, "full": true, "motion_off": shut, "constant_lips": shut, "judge": true}
    compare_units(scores, OWN, points, pairs, head)
    assert scores.value("AUE-L_own", "face", "full") == 0
    assert scores.value("AUE-L_own", "face", "motion_off") > 1
    assert {row["variant"] for row in scores.rows} == {"full", "motion_off"}


def test_a_face_that_is_not_found_is_left_out_or_told(places: Places, pairs: Pairs) -> None:
    head = HeadTrack.load(places.record("track", Keys("ada")))
    true = Landmarks.load(places.record("landmarks", Keys("ada"))).points[pairs.frames]
    gap = true.copy()
    gap[4] = np.nan
    _, found = units_of(true, gap, pairs, head)
    assert np.isnan(found[4]).all()
    assert not np.isnan(found[5]).all()
    scores = Scores(dict(KEYS))
    compare_units(scores, OWN, {"truth": np.full_like(true, np.nan), "full": true}, pairs, head)
    assert not scores.rows
    assert "no face in the truth" in scores.absent[0]["why"]


def test_trembling_is_not_told_across_a_gap(places: Places) -> None:
    clip = Clip.load(places.record("ingest", Keys("ada")))
    frames = np.array([*range(60, 70), *range(80, 90)])
    pairs = Pairs(clip, frames, np.arange(20))
    assert pairs.breaks == [10]
    assert list(np.flatnonzero(~pairs.inner(1))) == [0, 9, 10, 19]
    assert pairs.inner(0).all()
    true = Landmarks.load(places.record("landmarks", Keys("ada"))).points[frames]
    scores = Scores(dict(KEYS))
    compare_points(scores, [all_metrics()["jitter"]], {"truth": true, "full": true}, pairs)
    assert np.isnan(scores.columns["jitter", "face", "full"][[9, 10]]).all()
    assert scores.value("jitter", "face", "full") == 1


def test_without_openface_its_sums_are_absent(
    places: Places, pairs: Pairs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    scores = Scores(dict(KEYS))
    compare_openface(scores, OPENFACE, {}, pairs, 1.0)
    assert {entry["metric"] for entry in scores.absent} == {"AUE-L", "AUE-U"}
    assert "FeatureExtraction is on PATH" in scores.absent[0]["why"]


def test_openface_measures_truth_and_renderings(
    places: Places, pairs: Pairs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A program that says for its n-th video that every unit is n, and of the third that there is no face.
    heads = "frame, timestamp, confidence, success, " + ", ".join(f"{unit}_r" for unit in UNIT_NAMES)
    path = tmp_path / "bin" / "FeatureExtraction"
    path.parent.mkdir()
    path.write_text(
        f"""#!/bin/sh
[ -s "$2" ] || exit 3
echo >> {tmp_path}/calls
n=$(wc -l < {tmp_path}/calls)
good=1; [ "$n" -eq 3 ] && good=0
out="$4/rows.csv"
echo "{heads}" > "$out"
k=0
while [ $k -lt 20 ]; do
  t=$(echo "$k" | awk '{{printf "%.2f", $1 / 25}}')
  echo "$((k + 1)), $t, 0.9, $good{", " + ", ".join(["$n"] * len(UNIT_NAMES))}" >> "$out"
  k=$((k + 1))
done
"""
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    stores = rendered_stores(Rendering.load(places.record("render", Keys("ada", "logmel"))))
    scores = Scores(dict(KEYS))
    compare_openface(scores, OPENFACE, {name: stores[name] for name in ("full", "motion_off")}, pairs, 1.0)
    assert scores.value("AUE-L", "face", "full") == pytest.approx(9)  # nine units, each wrong by one
    assert scores.value("AUE-U", "face", "full") == pytest.approx(8)
    assert {(entry["metric"], entry["variant"]) for entry in scores.absent} == {
        ("AUE-L", "motion_off"),
        ("AUE-U", "motion_off"),
    }
    assert "saw no face" in scores.absent[0]["why"]
