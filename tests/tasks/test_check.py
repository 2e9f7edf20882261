"""Looking at footage before anything is trained: figures, findings, verdicts, and the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import make_clip

from models.errors import InputError, UsageError
from tasks import timeline
from tasks.check import _is_watched, check
from tasks.fitness import face_figures, findings_of, told, verdict_of
from tasks.places import Places

ROOT = Path(__file__).resolve().parents[2]
PLACES = Places(ROOT)
GOOD = {
    **{"seconds": 60.0, "brightness": 0.5, "sharpness": 200.0, "cuts": 1, "face_share": 1.0, "longest_gap_s": 0.0},
    **{"eye_distance_px": 140.0, "yaw_degrees": [-10, 12], "mouth_opening": [0.0, 0.1], "judder_period": 0},
    **{"blinks_per_minute": 15.0, "loudness_dbfs": -20.0, "clipped_share": 0.0, "silence_share": 0.1},
    **{"silent_start_s": 0.0, "silent_end_s": 0.0, "uneven_share": 0.0, "repeated_share": 0.0},
}
SOURCE = {"file": "a.mp4", "notes": [], "frame_rate": 25.0, "crop": [0, 0, 512]}


def lag(frames: int, sure: bool = True) -> dict[str, object]:
    return {"frames": frames, "milliseconds": frames * 40, "sure": sure, "low": 0, "high": 0, "why": "noise"}


def test_good_footage_has_no_finding() -> None:
    assert findings_of(GOOD, [SOURCE]) == []
    assert verdict_of([]) == "fit"


@pytest.mark.parametrize(
    ("figures", "level", "words"),
    [
        ({"seconds": 1.5}, "unfit", "only 1.5 s"),
        ({"seconds": 20.0}, "warning", "far better"),
        ({"face_share": 0.0}, "unfit", "no face"),
        ({"face_share": 0.5, "longest_gap_s": 9.0}, "unfit", "only 50 %"),
        ({"face_share": 0.95, "longest_gap_s": 2.0}, "warning", "2 s at a stretch"),
        ({"second_face_share": 0.4}, "unfit", "two faces"),
        ({"eye_distance_px": 18.0}, "unfit", "tiny"),
        ({"eye_distance_px": 40.0}, "warning", "small"),
        ({"yaw_degrees": [-60, 5]}, "warning", "60 degrees"),
        ({"mouth_opening": [0.001, 0.01]}, "warning", "hardly opens"),
        ({"blinks_per_minute": 0.0}, "warning", "blink"),
        ({"judder_period": 5}, "warning", "stutters every 5"),
        ({"sound_lag": lag(6)}, "warning", "6 frames (240 ms) after"),
        ({"sound_lag": lag(-5)}, "warning", "5 frames (200 ms) before"),
        ({"brightness": 0.1}, "warning", "dark"),
        ({"sharpness": 3.0}, "warning", "blurred"),
        ({"cuts": 40}, "warning", "40 cuts"),
        ({"uneven_share": 0.2}, "warning", "varies"),
        ({"repeated_share": 0.3}, "warning", "repeat"),
        ({"loudness_dbfs": -50.0}, "warning", "quiet"),
        ({"loudness_dbfs": -120.0}, "unfit", "silent"),
        ({"clipped_share": 0.02}, "warning", "overdriven"),
        ({"silence_share": 0.7}, "warning", "silence"),
    ],
)
def test_each_fault_is_named_with_what_to_do(figures: dict, level: str, words: str) -> None:
    found = findings_of({**GOOD, **figures}, [SOURCE])
    assert [finding.level for finding in found] == [level]
    assert words in found[0].what
    assert found[0].fix
    assert verdict_of(found) == ("unfit" if level == "unfit" else "fit with warnings")


def test_an_unsure_or_small_lag_is_no_finding() -> None:
    assert not findings_of({**GOOD, "sound_lag": lag(2)}, [SOURCE])
    assert not findings_of({**GOOD, "sound_lag": lag(9, sure=False)}, [SOURCE])
    assert ("sound after picture", "unsure: noise") in told({"sound_lag": lag(9, sure=False)})
    assert ("sound after picture", "1 frame (40 ms)") in told({"sound_lag": lag(1)})
    assert ("sound after picture", "2 frames (80 ms), between 1 and 3") in told(
        {"sound_lag": {**lag(2), "low": 1.0, "high": 3.0}}
    )


def test_where_recordings_are_joined_is_no_cut() -> None:
    assert findings_of({**GOOD, "cuts": 8}, [SOURCE])
    assert not findings_of({**GOOD, "cuts": 8}, [SOURCE] * 8)


def test_no_sound_is_unfit() -> None:
    silent = {key: value for key, value in GOOD.items() if key not in ("loudness_dbfs",)}
    assert [finding.what for finding in findings_of(silent, [SOURCE])] == ["there is no sound in it"]
    unread = {**silent, "sound": "pcm_f32le, 16000 Hz, 1 channels"}  # why it cannot be read is a finding of its own
    assert findings_of(unread, [SOURCE]) == []


def test_gaps_are_mapped_and_frames_nobody_looked_at_are_none() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (100, 478, 2))
    points[20:45] = np.nan
    looked = np.arange(100) < 80
    points[~looked] = np.nan
    figures = face_figures(points, looked, np.full(100, np.nan), np.zeros(0, np.int16), [], 25.0)
    assert figures["gaps_s"] == [[0.8, 1.8]]
    assert figures["longest_gap_s"] == 1.0
    assert figures["face_share"] == pytest.approx(55 / 80)
    nobody = face_figures(np.full_like(points, np.nan), looked, np.full(100, np.nan), np.zeros(0, np.int16), [], 25.0)
    assert nobody["face_share"] == 0


def test_of_a_long_recording_stretches_are_watched_that_are_spread_over_it() -> None:
    assert all(_is_watched(t, 1500) for t in range(1500))
    watched = np.array([_is_watched(t, 15000) for t in range(15000)])
    assert watched.sum() == 1500
    assert watched[:2500].any()
    assert watched[-2500:].any()


def test_footage_without_face_and_sound_is_unfit_and_leaves_nothing_behind(assets: Path, tmp_path: Path) -> None:
    video = make_clip(tmp_path / "wall.mp4", 3.0, 30, sound=np.zeros(0, np.int16))
    environment = {**os.environ, "GAUSSTALK_ROOT": str(ROOT)}
    command = [sys.executable, "-m", "flows.cli", "check", str(video), "--json", "--picture", str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    result = json.loads(done.stdout)
    assert result["verdict"] == "unfit"
    words = " ".join(finding["what"] for finding in result["findings"])
    assert "no face" in words
    assert "no sound" in words
    assert "30 pictures a second were resampled" in words
    assert cv2.imread(str(tmp_path / "a.png")).std() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "wall.mp4"]


def test_what_is_no_video_and_what_is_no_picture_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    with pytest.raises(InputError, match="not a video"):
        check(PLACES, text)
    with pytest.raises(UsageError, match="must end in"):
        check(PLACES, text, tmp_path / "a.gif")


def test_the_lag_of_real_footage_is_found(assets: Path, tmp_path: Path) -> None:
    result = check(PLACES, assets / "video" / "syncnet_example.avi", tmp_path / "a.png")
    found = result["figures"]["sound_lag"]
    assert found["sure"]
    assert found["frames"] == pytest.approx(-3, abs=1)  # as SyncNet's authors give it
    assert result["verdict"] == "fit with warnings"
    assert "3 frames (120 ms) before the picture" in " ".join(finding["what"] for finding in result["findings"])
    assert result["figures"]["face_share"] == 1.0
    assert 15 < result["figures"]["blinks_per_minute"] < 80
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 1200


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="draws ASCII only")
def test_the_picture_tells_names_in_any_script() -> None:
    one, other = (timeline._words([f"{name}.mp4: fit"], 300) for name in ("日本", "Übung"))
    assert not np.array_equal(one, timeline._words(["??.mp4: fit"], 300))
    assert not np.array_equal(other, timeline._words(["?bung.mp4: fit"], 300))
