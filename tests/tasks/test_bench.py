"""The bench: what it tells, its arithmetic and its verdicts. How fast anything is, is not tested here."""

import json
import math
from pathlib import Path

import numba
import pytest
import torch
from PIL import Image

from models.errors import InputError, UsageError
from models.methods import talking_gaussian, talking_gaussian_networks
from tasks.bench import bars, curves, run, scenes, tables
from tasks.bench.backends import FAST, REFERENCE, using
from tasks.bench.breakdown import NAMES, breakdown
from tasks.bench.drawing import draw_curves
from tasks.bench.head import Training, synthetic_head
from tasks.bench.machine import noise
from tasks.bench.parts import Rig
from tasks.bench.run import PARTS, Sizes, bench
from tasks.bench.timing import Figure, Side, Timing, measure
from tasks.places import Places

ROOT = Path(__file__).resolve().parents[2]
TINY = Sizes(
    raster=(150,), picture=32, grid=64, bound=60, head=(120, 60), render=32, curve_gaussians=(50, 100, 200),
    curve_pixels=(16, 24, 32), curve_frames=(1, 2, 4), repeats=2, slow_repeats=1, profiled=1, curve_seconds=0.0,
)  # fmt: skip
RIG = Rig("cpu", 1, 1)


def figure(fast: list[float], reference: list[float] | None = None, name: str = "x") -> Figure:
    sides = [Timing(side, 1, times, [2 * t for t in times]) for side, times in (("cpu", fast), ("reference", reference))
             if times]  # fmt: skip
    return Figure(name, "", *sides)


def all_keys(content: object) -> set[str]:
    if isinstance(content, dict):
        return set(content) | set().union(*map(all_keys, content.values()))
    return set().union(*map(all_keys, content)) if isinstance(content, list) else set()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder, before = tmp_path_factory.mktemp("bench"), (numba.get_num_threads(), torch.get_num_threads())
    bench(Places(folder), "all", wanted="cpu", folder=folder / "out", sizes=TINY)
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])
    return json.loads((folder / "out" / "bench.json").read_text())


def test_every_part_is_measured_against_the_reference(result: dict) -> None:
    names = [entry["name"] for entry in result["figures"]]
    assert names == [
        *("raster_150_forward", "raster_150", "first_call", "grid_64", "bound_60", "ssim", "iteration", "render_32"),
    ]
    for entry in result["figures"]:
        assert entry["fast"]["backend"] == "cpu"
        assert 0 < entry["fast"]["wall_ms_min"] <= entry["fast"]["wall_ms_median"]
        if entry["name"] != "first_call":
            assert entry["reference"]["backend"] == "reference"
            quotient = entry["reference"]["wall_ms_min"] / entry["fast"]["wall_ms_min"]
            assert entry["ratio"] == pytest.approx(quotient, rel=2e-3)


def test_every_key_is_documented(result: dict) -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    keys = all_keys({key: value for key, value in result.items() if key != "machine"}) | set(result["machine"])
    assert {key for key in keys if f"`{key}`" not in text} == set()


def test_the_machine_and_its_load_are_told(result: dict) -> None:
    assert result["machine"]["cores"] >= 1
    assert result["machine"]["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert result["load"]["seconds"] > 0
    assert {"avx2", "neon", "sse4.2"} & set(result["machine"]["instruction_sets"])


def test_no_bar_is_judged_at_other_sizes(result: dict) -> None:
    assert result["bars"] == []


def test_curves_are_drawn_and_their_slopes_told(result: dict) -> None:
    assert [curve["name"] for curve in result["curves"]] == ["gaussians", "pixels", "frames"]
    for curve in result["curves"]:
        assert len(curve["slopes"]) == len(curve["x"]) - 1 == len(curve["ms"]) - 1
        assert "linear" in curve["note"]
    with Image.open(result["files"]["curves"]) as picture:
        assert picture.size[0] > 3 * 400
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 10  # it is not blank


def test_the_profile_names_every_part_and_adds_up(result: dict) -> None:
    rows = {row["part"]: row for row in result["profile"]}
    assert set(rows) == {*NAMES.values(), "rest"}
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1, abs=0.01)
    for part in ("rasteriser", "grids", "networks (MLPs, audio)", "SSIM", "spherical harmonics"):
        assert rows[part]["forward_ms"] > 0
        assert rows[part]["backward_ms"] > 0


def test_a_person_reads_the_same(result: dict) -> None:
    assert len(tables.figure_rows(result)) == len(result["figures"])
    assert all(len(row) == len(tables.FIGURE_HEADS) for row in tables.figure_rows(result))
    assert all(len(row) == len(tables.PROFILE_HEADS) for row in tables.profile_rows(result))
    text = "\n".join(tables.lines(result))
    assert "iterations a second" in text
    assert "frames a second" in text
    assert ("quiet" in text) == result["noise"]["quiet"]


@pytest.mark.parametrize("part", ["rastr", "", "ALL"])
def test_an_unknown_part_is_refused(part: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        bench(Places(tmp_path), part)
    assert all(name in error.value.fix for name in PARTS)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(run, "_run", lambda jobs: pytest.fail("it measures"))
    with pytest.raises(UsageError, match="that is a file, no folder"):
        bench(Places(tmp_path), "ssim", wanted="cpu", folder=tmp_path / "file", sizes=TINY)


def test_a_head_that_is_not_trained_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("extractors: [logmel]\n")
    with pytest.raises(InputError, match="ann has no head for logmel that TalkingGaussian has trained"):
        bench(Places(tmp_path), "render", speaker="ann", wanted="cpu", sizes=TINY)


# ---- arithmetic


def test_ratios_are_of_least_and_of_median() -> None:
    measured = figure([2, 4, 3], [60, 30, 90])
    assert measured.ratio == 15
    assert measured.ratio_median == 20
    assert measured.ratio_cpu == 15
    assert measured.noisy
    assert not figure([2, 2.1, 2.2], [30, 31, 32]).noisy
    assert figure([2]).ratio is None
    assert figure([4, 5]).as_record()["per_second"] == 250


def test_the_two_sides_run_in_turn_after_a_warm_up() -> None:
    calls, ticks = [], []
    fast, slow = (Side(name, lambda name=name: calls.append(name)) for name in ("fast", "slow"))
    measured = measure("x", "", fast, slow, 3, ticks.append)
    order = [name for k, name in enumerate(calls) if k == 0 or calls[k - 1] != name]
    assert order == ["fast", "slow"] * 4
    assert len(measured.fast.wall_ms) == 3
    assert measured.reference is not None
    assert len(measured.reference.wall_ms) == 3
    assert sum(ticks) == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "value", "fast", "reference", "state", "measured"),
    [
        ("ratio", 40, [2, 9], [80, 81], "pass", 40),
        ("ratio", 40, [2, 2], [79, 80], "fail", 39.5),
        ("per second", 25, [40, 50], None, "pass", 25),
        ("per second", 25, [41, 41], None, "fail", 24.39),
        ("seconds", 2, [2000, 3000], None, "pass", 2),
        ("seconds", 2, [2010, 2010], None, "fail", 2.01),
    ],
)
def test_bars_are_judged(kind: str, value: float, fast: list, reference: list, state: str, measured: float) -> None:
    verdict = bars.judge(bars.Bar("x", kind, value), figure(fast, reference))
    assert verdict["state"] == state
    assert verdict["measured"] == pytest.approx(measured, rel=1e-3)


def test_a_disturbed_machine_can_pass_a_rate_but_not_fail_it() -> None:
    rate, ratio = bars.Bar("x", "per second", 25), bars.Bar("x", "ratio", 40)
    assert bars.judge(rate, figure([39]), disturbed=True)["state"] == "pass"
    assert bars.judge(rate, figure([50]), disturbed=True)["state"] == "too noisy"
    assert bars.judge(ratio, figure([2], [60]), disturbed=True)["state"] == "fail"


def test_what_was_not_measured_is_neither_passed_nor_failed() -> None:
    assert bars.judge(bars.BARS[0], None)["state"] == "not measured"
    states = [verdict["state"] for verdict in bars.verdicts([figure([1], [50], "raster_10k")], "cpu")]
    assert states.count("pass") == 1
    assert states.count("not measured") == len(bars.BARS) - 1


def test_noise_names_its_causes() -> None:
    assert noise({"others_cores": 0.1}, []) == {"quiet": True, "why": ""}
    told = noise({"others_cores": 1.3}, ["grid_10k"])
    assert not told["quiet"]
    assert "1.3 cores" in told["why"]
    assert "grid_10k" in told["why"]


def test_the_cost_model_finds_its_parts_again() -> None:
    points = [(1e3, 1e6), (1e4, 1e6), (1e5, 1e6), (1e4, 1e5), (1e4, 3e7)]
    ms = [0.4 + 2e-4 * count + 3e-6 * pairs for count, pairs in points]
    cost = curves.fit_cost([n for n, _ in points], [p for _, p in points], ms)
    assert (cost.call_ms, cost.gaussian_us, cost.pair_ns) == pytest.approx((0.4, 0.2, 3.0), rel=1e-3)
    assert cost.error < 1e-6
    assert cost.shares(1e4, 1e6)["each Gaussian"] == pytest.approx(2 / 5.4, rel=1e-3)


def test_where_a_curve_becomes_linear() -> None:
    x = [1, 2, 4, 8]
    assert curves.slopes(x, [10, 10, 20, 40]) == pytest.approx([0, 1, 1])
    assert curves.linear_from(x, [0, 1, 1]) == 2
    assert curves.linear_from(x, [1, 1, 1]) == 1
    assert curves.linear_from(x, [1, 1, 0.5]) is None


def test_a_curve_is_drawn_where_its_values_are(tmp_path: Path) -> None:
    path = tmp_path / "cost.png"
    draw_curves(path, [curves.Curve("a", "cpu", "things", [1, 10, 100], [5.0, 6.0, 50.0])], "title")
    with Image.open(path) as picture:
        blue = [(k % picture.width, k // picture.width) for k, pixel in enumerate(picture.getdata())
                if pixel == (31, 119, 180)]  # fmt: skip
    left = min(x for x, _ in blue)
    right = max(x for x, _ in blue)
    heights = {side: [y for x, y in blue if abs(x - side) < 4] for side in (left, right)}
    assert min(heights[left]) > max(heights[right]) + 50  # the cost rises to the right, up in the picture


# ---- what is run


def test_a_shell_covers_the_head_as_often_as_asked() -> None:
    shell = scenes.shell(400, size=64, cover=12.0)
    view = scenes.camera(64)
    faint = torch.full((400,), 0.5 / 255)  # below what is drawn: only those with more are counted below
    assert talking_gaussian.rasterize(*shell[:3], faint, shell.colors, *view).alpha.max() == 0
    alpha = talking_gaussian.rasterize(*shell[:4], shell.colors, *view).alpha
    assert 0.8 < (alpha > 0.5).sum().item() / scenes.head_pixels(64) < 1.4
    assert torch.equal(shell.scales, scenes.shell(400, size=64, cover=12.0).scales)
    larger = scenes.shell(400, size=64, cover=24.0).scales
    assert math.isclose((larger / shell.scales).mean().item(), math.sqrt(2), rel_tol=0.1)


def test_the_methods_code_runs_on_the_named_backends_and_is_left_as_it_was() -> None:
    before = talking_gaussian.rasterize
    scene = [tensor.double() for tensor in scenes.shell(20)]
    view = [tensor.double() for tensor in scenes.camera(16)[:2]]
    with using(REFERENCE):
        assert talking_gaussian.rasterize(*scene, *view, 16, 16).image.dtype == torch.float64
    with pytest.raises(ValueError, match="cpu rasteriser takes float32"), using(FAST["cpu"]):
        talking_gaussian.rasterize(*scene, *view, 16, 16)
    assert talking_gaussian.rasterize is before


def test_both_backends_train_the_same() -> None:
    steps = []
    for backends in (FAST["cpu"], REFERENCE):
        training = Training((150, 60), 32, "cpu")
        with using(backends):
            steps.append([training.step() for _ in range(4)])
    assert steps[0] == pytest.approx(steps[1], rel=1e-3)
    assert steps[0][-1] < steps[0][0]


def test_both_backends_render_the_same_synthetic_head() -> None:
    speaking, pictures = synthetic_head((200, 80), 32, "cpu"), []
    for backends in (FAST["cpu"], REFERENCE):
        with using(backends):
            head = speaking.load()
            motion = head.move(speaking.audio[0], speaking.expression[0])
            pictures.append(head.draw(speaking.camera, motion, speaking.behind).astype(int))
    assert pictures[0].shape == (32, 32, 3)
    assert abs(pictures[0] - pictures[1]).max() <= 2
    assert pictures[0][12:20, 12:20].std() > 5


def test_profiling_alone_leaves_the_backends() -> None:
    before = talking_gaussian_networks.encode
    assert breakdown(RIG, (60, 30), 16, 1)
    assert talking_gaussian_networks.encode is before
