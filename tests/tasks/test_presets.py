"""Every preset trains, short as it may be; every known fault of the released code is mended unless asked for."""

import dataclasses
import importlib
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_speaker import KEYS, make_speaker

from models.errors import InputError, MissingAssetError
from models.methods import gaussian_talker_presets
from models.methods.talking_gaussian_phases import RELEASED_FROZEN, FusePhase, FuseRates
from models.methods.talking_gaussian_presets import PRESETS
from models.parsing import labels
from models.perceptual.networks import official_shapes, write
from models.records import Landmarks, RefinedPoses, Weights
from models.schedule import Term
from tasks import explain, pose_refine, tg_face, tg_fuse, tg_motion, tg_mouth
from tasks.doctor import missing_networks, wrong_params
from tasks.material import Box, Footage
from tasks.params import resolve_params
from tasks.perceptual import patch_side
from tasks.places import Places
from tasks.stage import Stage, execute

pytestmark = pytest.mark.usefixtures("quiet_training")

ROOT = Path(__file__).resolve().parents[2]
MODULES = {module.STAGE.name: module for module in (pose_refine, tg_motion, tg_face, tg_mouth, tg_fuse)}
FIELDS = ("pose_refine", "tg_face", "tg_mouth")
OFFICIAL = ("released", "paper")
SCALES = {"cpu": 0.004, "best": 0.004, "demo": 0.004, "released": 0.0004, "paper": 0.0004}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder of assets with small-minded networks of LPIPS: random weights in the official format."""
    folder = tmp_path_factory.mktemp("assets")
    generator = torch.Generator().manual_seed(0)
    for network, file, origin in (
        ("alex", "alexnet", "torchvision"),
        ("squeeze", "squeezenet_caffe", "its authors in Caffe"),
    ):
        state = {}
        for name, shape in official_shapes(network).items():
            fan = float(np.prod(shape[1:])) if len(shape) > 1 else 1.0
            state[name] = (
                torch.randn(shape, generator=generator) * (2 / fan) ** 0.5 if len(shape) > 1 else torch.zeros(shape)
            )
        write(network, state, folder / f"{file}.safetensors", origin, "random")
    heads = {f"lin{k}.model.1.weight": torch.rand(1, c, 1, 1) for k, c in enumerate((64, 192, 384, 256, 256))}
    torch.save(heads, folder / "lpips_v0.1_alex.pth")
    return folder


@pytest.fixture
def egg(tmp_path):
    places = make_speaker(tmp_path / "egg")
    shutil.copy(ROOT / "data" / "assets.toml", places.root / "data" / "assets.toml")
    return places


def run(stage, places, params=None):
    module = MODULES[stage]
    keys = KEYS if "extractor" in module.STAGE.per else dataclasses.replace(KEYS, extractor=None)
    return execute(module.STAGE, module.run, keys, places, params)


def choose(places, preset, scale):
    """Write params.yaml for a speaker of 48 pixels, whom few Gaussians suffice."""
    # In so few steps opacities cannot rise as fast as the floor below which they are pruned.
    few = "opacity: 0.6" + (", density: {least: 20}" if preset in OFFICIAL else "")
    places.params.write_text(
        f"preset: {preset}\nscale: {scale}\npose_refine: {{phase: {{points: 200}}}}\ntg_motion: {{}}\ntg_fuse: {{}}\n"
        f"tg_face: {{phase: {{points: 250, {few}}}}}\ntg_mouth: {{phase: {{points: 150, {few}}}}}\n"
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_however_short(preset, egg, weights, monkeypatch):
    monkeypatch.setenv("GAUSSTALK_ASSETS", str(weights))
    choose(egg, preset, SCALES[preset])
    refined = RefinedPoses.load(run("pose_refine", egg))
    given = {stage: Weights.load(run(stage, egg)) for stage in ("tg_motion", "tg_face", "tg_mouth", "tg_fuse")}
    official = preset in OFFICIAL
    assert (refined.quality["rounds"] == 0) == official
    for stage, found in given.items():
        assert all(np.isfinite(tensor).all() for tensor in found.tensors.values()), stage
        changed = " with changes" if stage in ("tg_face", "tg_mouth") else ""
        assert found.quality["preset"] == f"{preset}{changed}, steps x {SCALES[preset]:g}"
        told = explain.explain(egg, stage)
        terms = {row["name"] for row in told["rows"]} & {"alpha", "lip_lpips", "patch_lpips", "landmarks", "attention"}
        assert terms <= set(found.curves) | {"attention"}, stage  # every fourth step may be none of a few
    config = given["tg_face"].config
    assert config["gaze"] is not official
    assert len(config["action_units"]) == (7 if preset in ("paper", "best") else 6)
    assert config["face_grid"] == [16, 256.0 if preset == "paper" else 38.4]
    assert given["tg_fuse"].config["mouth"]["mouth_grid"] == [64, 384.0 if preset == "paper" else 57.6]
    assert ("patch_lpips" in given["tg_fuse"].curves) == (preset in (*OFFICIAL, "best"))
    drawn = [given["tg_fuse"].tensors[f"{branch}/motion/audio.articulation"] for branch in ("face", "mouth")]
    assert drawn == ([1, 1] if official else [tg_fuse.FuseParams().articulation] * 2)
    if official:  # fusing changes colours and the face's opacity only
        assert "lip_lpips" in given["tg_face"].curves
        for branch, kept in (("face", "raw_scales"), ("mouth", "raw_opacities")):
            before, after = (
                given[stage].tensors[f"{branch}/gaussians/{kept}"] for stage in (f"tg_{branch}", "tg_fuse")
            )
            assert np.array_equal(before, after)
        stages = given["tg_face"], given["tg_fuse"]
        assert not np.array_equal(*(stage.tensors["face/gaussians/raw_opacities"] for stage in stages))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scale", [1.0, 0.02, 0.0001])
@pytest.mark.parametrize("stage", MODULES)
def test_all_iteration_counts_scale_together(preset, scale, stage, tmp_path):
    places = SimpleNamespace(params=tmp_path / "params.yaml")
    whole, short = {}, {}
    for factor, told in ((1.0, whole), (scale, short)):
        choose(places, preset, factor)
        told |= explain.explain(places, stage)
    assert short["steps"] == (max(1, round(whole["steps"] * scale)) if whole["steps"] else 0)
    ends = {(row["name"], row["says"].split(" every")[0]): row["last"] / whole["steps"] for row in whole["rows"]}
    for row in short["rows"]:
        assert 1 <= row["first"] <= row["last"] <= short["steps"]
        if scale == 0.02 and (row["name"], row["says"].split(" every")[0]) in ends:
            end = ends[row["name"], row["says"].split(" every")[0]]
            assert row["last"] / short["steps"] == pytest.approx(end, abs=1.5 / short["steps"])


def test_sections_override_single_values_of_a_preset(tmp_path):
    path, stage = tmp_path / "params.yaml", tg_face.STAGE
    path.write_text("preset: released\ntg_face: {phase: {hide_hair: 0, alpha: {start: 0.5}, density: {stop: 0.4}}}\n")
    params, words = resolve_params(path, "tg_face", stage.params, stage.presets)
    assert words == "released with changes"
    assert params.phase.hide_hair.weight == 0
    assert params.phase.alpha == Term(1e-3, start=0.5)
    assert (params.phase.density.stop, params.phase.density.gradient) == (0.4, 5e-4)
    assert params.phase.steps == 50_000


def test_the_default_preset_is_what_the_classes_say(tmp_path):
    (tmp_path / "params.yaml").write_text("\n".join(f"{stage}: {{}}" for stage in MODULES))
    for stage, module in MODULES.items():
        declared = module.STAGE
        params, words = resolve_params(tmp_path / "params.yaml", stage, declared.params, declared.presets)
        assert (params, words) == (declared.params(), "cpu")


def test_missing_weights_of_lpips_are_named_with_the_way_out(egg, monkeypatch):
    monkeypatch.setenv("GAUSSTALK_ASSETS", "")
    choose(egg, "released", 0.0004)
    run("pose_refine", egg)
    with pytest.raises(MissingAssetError, match="alexnet") as error:
        run("tg_mouth", egg)
    assert "gausstalk fetch alexnet lpips_alex" in error.value.fix
    assert "patch_lpips: 0 under tg_mouth: phase:" in error.value.fix
    sections = egg.params.read_text().replace("{points: 150,", "{points: 150, patch_lpips: 0,")
    egg.params.write_text(sections)
    assert "patch_lpips" not in Weights.load(run("tg_mouth", egg)).curves


def test_weights_that_only_the_last_stage_needs_are_missed_before_the_first_begins(egg, weights, monkeypatch):
    egg.params.write_text("preset: best\ntg_motion: {}\ntg_face: {}\ntg_fuse: {}\n")
    monkeypatch.setenv("GAUSSTALK_ASSETS", "")
    missing = missing_networks(egg, ["ingest", "tg_motion", "tg_face", "tg_fuse"])
    assert [error.fix.splitlines()[0] for error in missing] == ["gausstalk fetch squeezenet_caffe"]
    assert missing_networks(egg, ["tg_motion", "tg_face"]) == []
    monkeypatch.setenv("GAUSSTALK_ASSETS", str(weights))
    assert missing_networks(egg, ["tg_fuse"]) == []


def test_patches_are_drawn_anew_every_step_and_the_same_again():
    phase = SimpleNamespace(patch_px=(32.0, 48.0))
    sides = [patch_side(phase, 2.0, 0, step) for step in range(400)]
    assert sides == [patch_side(phase, 2.0, 0, step) for step in range(400)]
    assert (min(sides), max(sides)) == (64, 96)
    assert all(side % 2 == 0 for side in sides)
    assert max(patch_side(phase, 1.0, 0, step) for step in range(50)) <= 48


# ------------------------------------------------------------------------------------------ known faults, mended


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """A speaker with an untrained face and mouth."""
    places = make_speaker(tmp_path_factory.mktemp("egg"))
    choose(places, "cpu", 0.001)
    for stage in ("pose_refine", "tg_motion", "tg_face", "tg_mouth"):
        run(stage, places, pose_refine.PoseRefineParams(rounds=0) if stage == "pose_refine" else None)
    return places


@pytest.mark.parametrize("kept", [False, True])
def test_the_rate_of_opacity_counts_while_fusing(halves, kept):
    """The released code passes one, and goes on with another."""
    before = Weights.load(halves.record("tg_face", KEYS)).tensors["face/gaussians/raw_opacities"]
    changes = []
    for rate in (1e-3, 4e-3):
        phase = FusePhase(
            steps=1,
            kept_opacity_rate=kept,
            frozen=RELEASED_FROZEN,
            rates=FuseRates(raw_opacities=rate, appearance_curve=()),
        )
        after = Weights.load(run("tg_fuse", halves, tg_fuse.FuseParams(phase=phase)))
        changes.append(np.abs(after.tensors["face/gaussians/raw_opacities"] - before).max())
    expected = [0.05, 0.05] if kept else [1e-3, 4e-3]
    assert changes == pytest.approx(expected, rel=1e-3)  # Adam's first step is as large as the rate


def test_a_head_without_hair_costs_nothing():
    maps, lips = torch.rand(8, 8, 2, requires_grad=True), Box(2, 2, 5, 5)
    bald = torch.zeros(8, 8, dtype=torch.bool)
    stray = tg_face.stray_attention(maps, bald, lips)
    assert stray.item() == pytest.approx(maps[2:5, 2:5, 1].mean().item())
    stray.backward()
    assert torch.isfinite(maps.grad).all()
    with pytest.raises(InputError, match="NaN") as error:
        tg_face.stray_attention(maps, bald, lips, "nan")
    assert "empty_hair: zero" in error.value.fix
    hair = bald.clone()
    hair[0, :4] = True
    for how in ("zero", "nan"):
        both = tg_face.stray_attention(maps, hair, lips, how) - tg_face.stray_attention(maps, None, lips)
        assert both.item() == pytest.approx(maps[0, :4].mean(0).sum().item(), rel=1e-4)


def test_the_face_is_asked_to_be_opaque_only_where_its_colour_is_asked_for():
    """XOR with the teeth asks for an opaque face in front of plain green; see parse.shared_teeth for the original."""
    everything = np.arange(labels.COUNT, dtype=np.uint8)
    green = labels.select(everything, labels.HEAD) & ~labels.select(everything, labels.HEAD_ALONE)
    assert everything[green].tolist() == [labels.SHARED_TEETH]


def test_a_frame_without_a_face_shifts_no_other(egg):
    keys = dataclasses.replace(KEYS, extractor=None)

    def read(record, stage):
        return record.load(egg.record(stage, KEYS if stage == "audio" else keys))

    def batches():
        footage = Footage.of(SimpleNamespace(stage=tg_motion.STAGE, read=read))
        return footage.train_frames, {int(t): footage.landmark_batch([int(t)]) for t in footage.train_frames}

    frames, before = batches()
    path = egg.record("landmarks", keys)
    landmarks = Landmarks.load(path)
    points, valid = landmarks.points.copy(), landmarks.valid.copy()
    points[7], valid[7] = 0, False
    shutil.rmtree(path)
    path.mkdir()
    dataclasses.replace(landmarks, points=points, valid=valid).save(path)
    left, after = batches()
    assert left.tolist() == [t for t in frames if t != 7]
    for t in left:
        for own, same in zip(after[t], before[t], strict=True):
            assert torch.equal(own, same), t


# ------------------------------------------------------------------------------------------------------- options


def test_only_stages_that_a_preset_changes_run_again_with_another():
    """dvc.yaml lists `preset` for stages that declare presets, and for no others (test_dag)."""
    declared = {path.stem: importlib.import_module(f"tasks.{path.stem}") for path in (ROOT / "tasks").glob("*.py")}
    found = {name: getattr(module, "STAGE", None) for name, module in declared.items()}
    stages = {name: stage for name, stage in found.items() if isinstance(stage, Stage)}
    asking = {name for name, stage in stages.items() if stage.presets}
    assert set(PRESETS) == set(gaussian_talker_presets.PRESETS)  # one word of params.yaml chooses for both methods
    both = (*PRESETS.values(), *gaussian_talker_presets.PRESETS.values())
    assert asking == {section for sections in both for section in sections}
    assert asking == {*MODULES, "gt_motion", "gt_renderer", "gt_inpaint"}


@pytest.mark.parametrize(
    ("section", "keys", "setting"),
    [
        ("gt_motion", "width inner heads encoder_layers decoder_layers mlp_layers", "{}: 100000000"),
        ("gt_motion", "windows frames voices", "phase: {{{}: 100000000}}"),
        ("gt_renderer", "gaussians", "{}: 100000000"),
        ("gt_inpaint", "width blocks levels stem margin_px feather_px", "{}: 100000000"),
        ("gt_inpaint", "lower_px", "phase: {{{}: 100000000}}"),
        *((stage, "points", "phase: {{{}: 100000000}}") for stage in FIELDS),
        *((stage, "capacity", "phase: {{density: {{{}: 100000000}}}}") for stage in (*FIELDS, "gt_renderer")),
        ("tg_motion", "frames", "phase: {{{}: 100000000}}"),
        ("tg_motion", "face_grid.0", "face_grid: [100000000, 38.4]"),
        ("tg_mouth", "mouth_grid.1", "mouth_grid: [64, 100000000]"),
        *((stage, "size", "{}: 100000000") for stage in ("demo", "ingest", "landmarks")),
    ],
)
def test_sizes_that_no_memory_holds_are_refused_with_key_and_limit(
    tmp_path: Path, section: str, keys: str, setting: str
) -> None:
    for key in keys.split():
        (tmp_path / "params.yaml").write_text(f"{section}: {{{setting.format(key)}}}\n")
        (error,) = wrong_params(Places(tmp_path))
        assert re.search(rf"{section}: .*\b{key}\b.* (at most|or equal to|0 to) \d+", error.what), error.what


def test_what_a_run_checks_beforehand_knows_presets(tmp_path: Path) -> None:
    def wrong(text: str) -> list[str]:
        (tmp_path / "params.yaml").write_text(text)
        return [error.what for error in wrong_params(Places(tmp_path))]

    right = "speakers: [demo]\npreset: released\nscale: 0.5\ntg_face:\n  seed: 0\n  phase: {alpha: 0.1}\n"
    assert wrong(right) == []
    assert wrong(right.replace("released", "fast")) == ["params.yaml: no preset 'fast'"]
    assert wrong(right.replace("alpha", "alhpa")) != []
    assert wrong("tgface: {}\n") == ["params.yaml: no stage 'tgface' has params"]
