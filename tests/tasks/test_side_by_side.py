"""Two runs side by side: differences with what is chance in them, and no comparison of what was not alike."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import evaluated_project
import numpy as np
import pandas
import pytest

from models.errors import InputError, UsageError
from models.metrics import all_metrics
from tasks import side_by_side
from tasks.comparable import caveats, why_copied
from tasks.measured import Measured
from tasks.per_frame import COLUMNS
from tasks.side_by_side import Difference, Run, as_row, compare, page_of, table_of

SAME = {"split": "a" * 64, "truth": "b" * 64}
COUNT = 200


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "DRAWS", 100)


def rows_of(metric: str, region: str, value: np.ndarray, against: np.ndarray | None = None) -> pandas.DataFrame:
    table: dict[str, Any] = {name: [""] * len(value) for name in COLUMNS}
    table |= {"metric": [metric] * len(value), "region": [region] * len(value), "variant": ["full"] * len(value)}
    table |= {"frame": np.arange(len(value)) + 70, "value": value}
    return pandas.DataFrame(table | {"against": np.full(len(value), np.nan) if against is None else against})


def run(name: str, psnr: np.ndarray, lmd: float = 0.8, videos: dict[str, Path] | None = None, **about: Any) -> Run:
    """A run whose PSNR of the mouth is known frame by frame, its lips too, and its LMD only as a number."""
    random = np.random.default_rng(0)
    truth = random.normal(0, 1, COUNT)
    lips = truth + random.normal(0, 0.5, COUNT)
    row = evaluated_project.metrics_file("ada")["rows"][0]
    rows = [
        {**row, "metric": "PSNR", "region": "mouth", "value": float(psnr.mean()), "unit": "dB", "better": "higher"},
        {**row, "metric": "r_open", "region": "face", "value": np.corrcoef(lips, truth)[0, 1], "unit": "1"},
        {**row, "metric": "LMD", "region": "face", "value": lmd, "unit": "px", "better": "lower"},
        {**row, "metric": "PSNR", "region": "mouth", "variant": "wrong_audio", "value": 1.0},
    ]
    told = {"speaker": "ada", "method": name, "size": "96 x 96", "split": "test", "data": SAME, "judge": "personal"}
    told |= {"basis": "research", "seconds": 8.0, "device": "cpu"}
    frames = pandas.concat([rows_of("PSNR", "mouth", psnr), rows_of("r_open", "face", lips, truth)])
    return Run(f"ada/{name}", name * 8, Measured({**told, **about}, rows), frames, videos or {})


def noise(mean: float, seed: int) -> np.ndarray:
    return mean + np.random.default_rng(seed).normal(0, 1, COUNT)


def found(one: Run, other: Run) -> dict[str, Difference]:
    return {told.metric: told for told in compare(one, other)}


def test_a_difference_that_every_frame_shows_is_one_and_chance_is_noise() -> None:
    base = noise(27.0, 1)
    clear = found(run("a", base), run("b", base + 0.2))["PSNR"]  # much less than the frames differ among themselves
    assert clear.verdict == "second better"
    assert clear.change == pytest.approx(0.2)
    assert clear.low == pytest.approx(0.2)
    assert clear.high == pytest.approx(0.2)
    assert found(run("a", base + 0.2), run("b", base))["PSNR"].verdict == "first better"
    chance = found(run("a", base), run("b", noise(27.0, 2)))["PSNR"]
    assert chance.verdict == "within noise"
    assert chance.low < 0 < chance.high
    assert chance.low <= (chance.change or 0.0) <= chance.high


def test_the_interval_holds_the_true_difference_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(24):
        told = found(run("a", noise(27.0, 2 * seed)), run("b", noise(27.3, 2 * seed + 1)))["PSNR"]
        hits += told.low <= 0.3 <= told.high
    assert hits >= 19  # few blocks make them a little too narrow


def test_what_is_not_stored_by_frame_has_no_interval_and_no_verdict() -> None:
    lmd = found(run("a", noise(27.0, 1), 0.8), run("b", noise(27.0, 1), 0.7))["LMD"]
    assert math.isnan(lmd.low)
    assert lmd.verdict == ""
    assert "not stored" in lmd.why
    assert as_row(lmd)["low"] is None
    bare = run("c", noise(27.0, 1))
    bare = Run(bare.key, bare.run_id, bare.measured, None, {})
    assert found(bare, run("a", noise(28.0, 1)))["PSNR"].verdict == ""
    # Stored values that do not give the number again are of something else.
    broken = run("d", noise(27.0, 1))
    broken.measured.rows[0]["value"] = 30.0
    assert "not stored" in found(broken, run("a", noise(27.0, 1)))["PSNR"].why


def speaking(name: str, windows: np.ndarray, network: str = "n", told_by: str = "Sync-C_house", **about: Any) -> Run:
    """A run of which the house's distances over lags are known, window by window."""
    metric = all_metrics()[told_by]
    row = evaluated_project.metrics_file("ada")["rows"][0]
    row |= {"metric": metric.name, "region": "face", "value": metric.summary(windows), "better": "higher"}
    told = {"speaker": "ada", "split": "drive: 200 frames", "drive": "de_f", "taught": {"sync_house": network}}
    frames = rows_of(metric.name, "face", *metric.by_frame(windows).T)
    stored = {(metric.name, "full"): windows, (metric.name, "wrong_sound"): windows[::-1]}
    return Run(f"ada/{name}", name * 8, Measured({**told, **about}, [row]), frames, {}, stored)


def test_a_drive_whose_sound_was_replaced_is_another_one() -> None:
    base = distances(1.0, 1)
    one = speaking("a", base, sound="5" * 64)
    assert found(one, speaking("b", base, sound="5" * 64))["Sync-C_house"].verdict == "same"
    for sound, why in (("6" * 64, "the drive has been replaced"), ("", "does not tell its sound")):
        with pytest.raises(InputError, match=why):
            compare(one, speaking("b", base, sound=sound))


def distances(best: float, seed: int) -> np.ndarray:
    windows = 1.3 + np.random.default_rng(seed).normal(0, 0.1, (COUNT, 31))
    windows[:, 15] = best + windows[:, 3] - 1.3
    windows[-4:] = np.nan  # the last frames begin no window
    return windows


def test_what_is_read_off_windows_has_an_interval_of_the_same_windows_of_both() -> None:
    base = distances(1.0, 1)
    better = base.copy()
    better[:, 15] -= 0.02  # far less than the windows differ among themselves
    told = found(speaking("a", base), speaking("b", better))["Sync-C_house"]
    assert told.verdict == "second better"
    assert (told.low, told.high) == pytest.approx((0.02, 0.02), abs=1e-3)
    chance = found(speaking("a", base), speaking("b", distances(1.0, 2)))["Sync-C_house"]
    assert chance.verdict == "within noise"
    assert chance.low < 0 < chance.high


@pytest.mark.parametrize("told_by", ["r_sound", "r_talker"])
def test_the_best_of_some_shifts_is_compared_at_all_of_them(told_by: str) -> None:
    random = np.random.default_rng(3)
    lips = random.normal(0, 1, COUNT + 10)
    shifted = np.stack([lips[k : k + COUNT] for k in range(11)], 1)

    def following(noise: float) -> np.ndarray:
        late = lips[3 : 3 + COUNT] + noise * random.normal(0, 1, COUNT)
        return np.concatenate([late[:, None], shifted], 1)

    runs = [speaking(name, following(noise), told_by=told_by) for name, noise in (("a", 2.0), ("b", 0.2))]
    told = found(*runs)[told_by]
    assert told.verdict == "second better"
    assert told.low > 0.2


def test_numbers_of_two_networks_have_no_verdict() -> None:
    told = found(speaking("a", distances(1.0, 1)), speaking("b", distances(0.8, 1), network="m"))["Sync-C_house"]
    assert told.verdict == ""
    assert "one and the same network" in told.why
    lost = speaking("b", distances(0.8, 1))
    lost.windows.clear()  # as of a run that was published before windows were kept
    assert "not stored" in found(speaking("a", distances(1.0, 1)), lost)["Sync-C_house"].why


def test_what_one_method_copies_from_the_true_frame_has_no_verdict() -> None:
    one, other = run("a", noise(30.0, 1), drawn="head"), run("b", noise(30.0, 1) + 2, drawn="face")
    assert found(one, other)["PSNR"].verdict == "second better"  # of the mouth, which both draw
    for either in (one, other):
        either.measured.rows[0]["region"] = "head"
        either.frames.replace({"region": {"mouth": "head"}}, inplace=True)
    told = found(one, other)["PSNR"]
    assert (told.verdict, told.change) == ("", pytest.approx(2))
    assert "copies from the true frame" in told.why
    notes = "\n".join(table_of(one, other, [told]).notes)
    assert "The first: draws the head, onto neck and cloth of the true frame; the second: draws the face alone" in notes


@pytest.mark.parametrize(
    ("one", "other", "regions"),
    [
        ("head", "head", ["frame", "steady", "head", "face_box", "mouth"]),
        ("head", "frame", ["head", "face_box", "mouth"]),
        ("head", "face", ["face_box", "mouth"]),
        ("head", "mouth", ["mouth"]),
        ("head", "", ["mouth"]),
        ("", "", ["mouth"]),
    ],
)
def test_only_what_both_draw_has_a_verdict(one: str, other: str, regions: list[str]) -> None:
    told = [{"method": name, "drawn": drawn} for name, drawn in (("ours", one), ("wav2lip", other))]
    every = ("frame", "steady", "head", "face_box", "mouth")
    assert [region for region in every if not why_copied(*told, "PSNR", region)] == regions
    assert bool(why_copied(*told, "r_eye", "face")) is ("face_box" not in regions)
    assert not why_copied(*told, "LMD", "face")
    assert not why_copied(*({**about, "drive": "de_f"} for about in told), "jitter", "face")
    if not other:
        assert "is not stated" in why_copied(*told, "PSNR", "head")
        assert any("--drawn" in note for note in caveats(*told))
    assert not why_copied(
        {"method": "ours"}, {"method": "ours"}, "PSNR", "head"
    )  # two of one kind, of an older project


def test_shares_of_frames_of_a_drive_have_intervals() -> None:
    def driven(name: str, closed: np.ndarray) -> Run:
        run = speaking(name, distances(1.0, 1))
        run.measured.rows.append(
            {**run.measured.rows[0], "metric": "closed_share", "value": closed.mean(), "better": ""}
        )
        run.measured.rows.append({**run.measured.rows[0], "metric": "opening", "value": 0.7, "better": "1"})
        frames = pandas.concat(
            [run.frames, rows_of("closed_share", "face", closed), rows_of("opening", "face", closed)]
        )
        return replace(run, frames=frames)

    often, seldom = (100.0 * (np.random.default_rng(k).random(COUNT) < share) for k, share in enumerate((0.8, 0.2)))
    told = found(driven("a", often), driven("b", seldom))
    assert told["closed_share"].verdict == "differs"
    assert told["closed_share"].high < -40
    assert "not stored" in told["opening"].why  # a ratio: its frames' mean is something else


def test_correlations_are_drawn_anew_with_their_truth() -> None:
    told = found(run("a", noise(27.0, 1)), run("b", noise(27.0, 1)))["r_open"]
    assert (told.change, told.verdict) == (0.0, "same")
    assert told.low == told.high == 0.0


def test_who_loses_faces_does_not_win_by_it() -> None:
    errors = np.abs(np.random.default_rng(6).normal(1.0, 0.1, COUNT))
    errors[40:80] += 2.0  # hard frames
    lost = np.where(np.arange(COUNT) // 40 == 1, np.nan, errors + 0.05)  # a little worse, and without a face in these

    def reading(name: str, value: np.ndarray) -> Run:
        one = run(name, noise(27.0, 1))
        row = {**one.measured.rows[2], "value": np.nanmean(value)}
        return replace(one, measured=Measured(one.measured.about, [row]), frames=rows_of("LMD", "face", value))

    runs = reading("a", errors), reading("b", lost)
    told = found(*runs)["LMD"]
    assert (told.other or 0) < (told.one or 0)
    assert told.change == pytest.approx(0.05)
    assert told.verdict == "first better"
    notes = table_of(*runs, [told]).notes
    assert any("Of LMD face one of the two has fewer frames" in note for note in notes)


def opening(name: str, amplitude: float, seed: int = 4) -> Run:
    """A run whose lips open so many times as far as the truth's."""
    truth = np.random.default_rng(seed).normal(0, 1, COUNT)
    one = run(name, noise(27.0, 1))
    row = {**one.measured.rows[1], "metric": "amplitude", "value": amplitude, "better": "1"}
    return replace(
        one, measured=Measured(one.measured.about, [row]), frames=rows_of("amplitude", "face", amplitude * truth, truth)
    )


def test_too_much_is_not_better_than_too_little() -> None:
    told = found(opening("a", 0.9), opening("b", 1.105))["amplitude"]
    assert told.low > 0  # it opens wider in every draw, and is no nearer to the truth
    assert (told.gain_low, told.gain_high) == pytest.approx((0.0055, 0.0055), abs=1e-3)
    random = np.random.default_rng(5)

    def blurred(name: str, amplitude: float) -> Run:
        one = opening(name, amplitude)
        frames = one.frames.assign(value=one.frames.value * np.repeat(random.lognormal(0, 0.1, COUNT // 20), 20))
        value = frames.value.std(ddof=0) / frames.against.std(ddof=0)
        return replace(
            one, frames=frames, measured=Measured(one.measured.about, [{**one.measured.rows[0], "value": value}])
        )

    little, much = blurred("a", 0.9), blurred("b", 1.105)
    told = found(little, much)["amplitude"]
    assert told.low > 0
    assert told.verdict == "within noise"
    assert found(blurred("c", 0.5), blurred("d", 1.1))["amplitude"].verdict == "second better"
    assert found(blurred("c", 0.9), blurred("d", 2.0))["amplitude"].verdict == "first better"
    assert found(opening("a", 0.5), opening("b", 1.9))["amplitude"].verdict == "second better"  # of ratios


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data": {**SAME, "split": "c" * 64}}, "different splits"),
        ({"size": "128 x 128"}, "different sizes: 96 x 96 and 128 x 128"),
        ({"speaker": "bob"}, "different speakers"),
        ({"data": {**SAME, "truth": "c" * 64}}, "different true frames"),
        ({"drive": "de"}, "different drives: none and de"),
        ({"data": None}, "does not tell its split"),
    ],
)
def test_runs_of_other_splits_sizes_or_frames_are_refused_with_the_reason(change: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match="cannot be compared") as refused:
        compare(run("a", noise(27.0, 1)), run("b", noise(27.0, 2), **change))
    assert why in str(refused.value)
    assert refused.value.fix.startswith("name two runs of one speaker and drive")


def test_a_run_is_not_compared_with_itself() -> None:
    one = run("a", noise(27.0, 1))
    with pytest.raises(UsageError, match=f"both are the run {re.escape(one.name)}"):
        compare(one, one)


def test_other_judges_devices_and_lossy_frames_are_told() -> None:
    lossy = {"imported": {"full": {"how": "h264", "lossless": False}}}
    one, other = run("a", noise(27.0, 1)), run("b", noise(27.0, 2), judge="mediapipe", device="cuda", **lossy)
    notes = "\n".join(table_of(one, other, compare(one, other)).notes)
    assert "read by personal and mediapipe" in notes
    assert "About 8 blocks are few" in notes
    assert "different devices" in notes
    assert "Frames of the second come from a lossy video" in notes


def test_the_page_drives_two_videos_with_one_button(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    one = run("a", noise(27.0, 1), videos={"result.mp4": tmp_path / "a.mp4"})
    other = run("b", noise(28.0, 2), videos={"result.mp4": tmp_path / "b.mp4", "side_by_side.mp4": tmp_path / "b.mp4"})
    page = page_of(one, other, table_of(one, other, compare(one, other)))
    assert page.count("<video ") == 2
    assert "data:video/mp4;base64,YQ==" in page
    assert page.count('id="play"') == 1
    assert "PSNR mouth, dB" in page
    assert "research - private evaluation only" in page
    assert "second better" in page
    assert page.count("<svg") == 2
    bare = Run(one.key, one.run_id, one.measured, one.frames, {})
    page = page_of(bare, other, table_of(bare, other, compare(bare, other)))
    assert "<video" not in page
    assert "No video is there of both" in page
