"""GaussianTalker's stages on a very small speaker: resumed, given wrong inputs, and a head that follows its sound."""

import dataclasses
import importlib
import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bound_egg import MODULES, PAINT, PARAMS, SMALL, SPEAK, SPEAKER, make_bound_egg, run, save
from tiny_speaker import KEYS, SIZE

from models.demo.head_model import build
from models.errors import InputError, UsageError
from models.gaussians.camera import Camera
from models.heads.mediapipe_points import EYE_RINGS, LIP_PAIRS
from models.heads.rig import face_mesh
from models.methods.gaussian_talker_config import RendererConfig
from models.methods.gaussian_talker_networks import BlendShapes, HeadTable
from models.methods.gaussian_talker_phases import RendererPhase
from models.methods.gaussian_talker_presets import PRESETS
from models.parsing.labels import EYES, SKIN
from models.records import TRAIN, AudioFeatures, Clip, HeadTrack, Masks, Rendering, Weights, store_path
from models.schedule import Frozen, Term, weights_at
from models.storage import FrameStore
from tasks import gt_motion, gt_renderer, training
from tasks.explain import explain
from tasks.gt_head import SpeakersFace, load_renderer, load_translator
from tasks.gt_renderer import HeadLearner
from tasks.media import probe
from tasks.params import resolve_params
from tasks.people import load_speaker

pytestmark = pytest.mark.usefixtures("quiet_training")


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return make_bound_egg(tmp_path_factory.mktemp("egg"))


@pytest.fixture(scope="module")
def trained(talker):
    return {stage: Weights.load(run(stage, talker)) for stage in ("gt_motion", "gt_renderer", "gt_inpaint")}


@contextmanager
def relabelled(places, weights, change):
    """Show the renderer other labels `[T, H, W]` for a while, as `change` makes them."""
    folder = places.record("parse", SPEAKER)
    kept = shutil.copytree(folder, folder.with_name("parse_kept"))
    masks = Masks.load(folder)
    labels = np.stack(list(masks.labels))
    change(labels)
    try:
        shutil.rmtree(store_path(folder, "labels"))
        store = FrameStore.create(store_path(folder, "labels"), labels, labels.shape[1:])
        dataclasses.replace(masks, labels=store).save(folder)
        yield
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)
        save(weights, places.record("gt_renderer", SPEAKER))


def test_lips_that_were_never_seen_open_with_their_sound(trained):
    quality = trained["gt_motion"].quality
    assert quality["test_opening_r"] > 0.6
    assert quality["test_lips_mm"] < 0.8 * quality["test_still_lips_mm"]


def test_lips_open_as_far_as_tracked_in_the_frames_that_were_learnt(talker, trained):
    track = HeadTrack.load(talker.record("track", SPEAKER))
    face = SpeakersFace.of(talker, load_speaker(talker, "egg"), track)
    learnt = np.flatnonzero((Clip.load(talker.record("ingest", SPEAKER)).split == TRAIN) & track.valid)
    values = torch.from_numpy(AudioFeatures.load(talker.record("audio", KEYS)).values)
    place, mouthing = torch.from_numpy(learnt), face.mouthing()
    spoken = load_translator(trained["gt_motion"], face).speak(values, 0)[place]
    deviations = []
    for numbers in (mouthing.truth[place], spoken):
        expression, _ = mouthing.coefficients(numbers, place)
        lips = face.model.landmarks(track.identity, expression.numpy(), None)[:, face.model.pair_rows(LIP_PAIRS)]
        deviations.append(np.linalg.norm(lips[:, :, 0] - lips[:, :, 1], axis=-1).mean(1).std())
    assert deviations[1] == pytest.approx(deviations[0], rel=0.01)
    assert trained["gt_motion"].quality["gain"] != 1


def test_what_was_hardly_learnt_is_not_blown_up(tmp_path):
    params = PARAMS["gt_motion"]
    params = params.model_copy(update={"phase": dataclasses.replace(params.phase, steps=1)})
    places = make_bound_egg(tmp_path)
    run("gt_motion", places, params)
    assert Weights.load(places.record("gt_motion", KEYS)).quality["gain"] == gt_motion.MOST_GAIN


def test_the_renderer_learns_the_face_and_keeps_to_its_mesh(trained):
    weights = trained["gt_renderer"]
    curve = weights.curves["image"]
    assert np.mean(curve[-10:]) < 0.6 * np.mean(curve[:5])
    assert weights.quality["gaussians"] > 500
    assert weights.quality["test_face_psnr"] > 15
    faces = weights.tensors["gaussians/faces"]
    assert faces.dtype == np.int64
    assert len(faces) == len(weights.tensors["gaussians/means"]) == weights.quality["gaussians"]
    assert np.abs(weights.tensors["gaussians/position_basis"]).max() > 0
    moved = np.abs(weights.tensors["head/expression"]).max(1) > 0
    assert moved[:32].any()
    assert not moved[32:].any()  # validation and test frames


def test_skin_that_the_mesh_does_not_have_is_left_to_the_frame(talker, trained):
    """Beside the head is a hand: nothing can draw it there, and nothing is torn towards it."""

    def hand(labels):
        assert not (labels[:, :16, :8] == SKIN).any()
        labels[:, :16, :8] = SKIN

    with relabelled(talker, trained["gt_renderer"], hand):
        beside = Weights.load(run("gt_renderer", talker))
    for name in ("image", "silhouette"):
        ends = [np.mean(weights.curves[name][-10:]) for weights in (beside, trained["gt_renderer"])]
        assert ends[0] < 1.2 * ends[1], name


def test_skin_alone_hides_no_open_eye_and_leaves_eyeballs_out(talker, trained, monkeypatch):
    """Half of the egg counts as eyeball; on the other is an open eye, and beside it the slit of a closed one."""
    half = (0, len(build().neutral) // 2)

    def with_eyeball(model):
        return face_mesh(dataclasses.replace(model, regions={**model.regions, "eyeball_left": half}))

    monkeypatch.setattr("tasks.gt_head.face_mesh", with_eyeball)

    def eyes(labels):
        labels[:, 10:22, 8:20] = EYES
        labels[:, 16:18, 24:40] = EYES

    phase = dataclasses.replace(PARAMS["gt_renderer"].phase, skin_alone=Term())
    with relabelled(talker, trained["gt_renderer"], eyes):
        params = PARAMS["gt_renderer"].model_copy(update={"phase": phase})
        weights = Weights.load(run("gt_renderer", talker, params))
        track = HeadTrack.load(talker.record("track", SPEAKER))
        face = SpeakersFace.of(talker, load_speaker(talker, "egg"), track)
        renderer, table = load_renderer(weights, face)
    eyeballs = torch.from_numpy(face.mesh.eyeballs)
    opacities = renderer.gaussians.opacities[eyeballs[renderer.gaussians.faces]]
    assert len(opacities)
    torch.testing.assert_close(opacities, torch.full_like(opacities, phase.opacity))  # they were never drawn
    camera = Camera(*(torch.from_numpy(part) for part in (track.world_to_camera[0], track.intrinsics)), SIZE, SIZE)
    alpha = renderer.draw(camera, table.at(0), left_out=eyeballs).alpha.detach()
    assert alpha[13:19, 11:17].mean() < 0.7
    assert alpha[16:18, 26:38].mean() > 0.93


@pytest.mark.parametrize("bare", [slice(40, 41), slice(34, None)])
def test_test_frames_without_a_face_cost_no_training(talker, trained, bare):
    def no_face(labels):
        labels[bare] = 0

    phase = dataclasses.replace(PARAMS["gt_renderer"].phase, steps=2)
    with relabelled(talker, trained["gt_renderer"], no_face):
        quality = Weights.load(
            run("gt_renderer", talker, PARAMS["gt_renderer"].model_copy(update={"phase": phase}))
        ).quality
    assert ("test_face_psnr" in quality) == (bare.stop is not None)


def test_what_only_the_most_turned_frame_shows_is_drawn(talker):
    track = HeadTrack.load(talker.record("track", SPEAKER))
    face = SpeakersFace.of(talker, load_speaker(talker, "egg"), track)
    turned = track.world_to_camera.copy()
    sine, cosine = np.sin(0.6), np.cos(0.6)
    turned[3, :3, :3] = turned[3, :3, :3] @ [
        [cosine, 0, sine],
        [0, 1, 0],
        [-sine, 0, cosine],
    ]  # of 32 frames, and none of 24

    def shown(poses):
        footage = SimpleNamespace(
            train_frames=np.arange(32),
            curriculum={"opening": np.arange(44.0)},
            poses=poses,
            mask=lambda *_: torch.ones(SIZE, SIZE, dtype=torch.bool),
            whole=None,
            scale=1.0,
            track=track,
            clip=SimpleNamespace(speaker="egg"),
        )
        return gt_renderer._shown(footage, face)

    straight, once = shown(track.world_to_camera), shown(turned)
    assert (once | straight == once).all()
    assert (once & ~straight & ~face.mesh.inside).sum() > 20


def test_a_face_covers_its_mesh_and_the_eyes_that_are_open_in_it(talker):
    track = HeadTrack.load(talker.record("track", SPEAKER))
    face = SpeakersFace.of(talker, load_speaker(talker, "egg"), track)
    middles = [track.rest_landmarks[np.isin(track.landmark_index, ring)].mean(0) for ring in EYE_RINGS]
    for frame in (0, 10):  # the head moves between them
        pose, intrinsics = (torch.from_numpy(part) for part in (track.world_to_camera[frame], track.intrinsics))
        covered = face.covers(frame, Camera(pose, intrinsics, SIZE, SIZE)).numpy()

        def pixels(points, pose=pose, intrinsics=intrinsics):
            seen = (torch.from_numpy(points) @ pose[:3, :3].T + pose[:3, 3]) @ intrinsics.T
            return (seen[:, :2] / seen[:, 2:]).numpy()

        mesh, eyes = pixels(face.vertices(frame)), pixels(np.stack(middles)).astype(int)
        assert covered[eyes[:, 1], eyes[:, 0]].all()
        rows, columns = np.nonzero(covered)
        for found, true in ((columns, mesh[:, 0]), (rows, mesh[:, 1])):
            assert found.min() == pytest.approx(max(0, true.min()), abs=1)
            assert found.max() + 1 == pytest.approx(min(SIZE, true.max()), abs=1)


def test_the_generator_learns_what_is_around_the_face(talker, trained):
    taught = trained["gt_inpaint"]
    try:
        params = PARAMS["gt_inpaint"].model_copy(update={"phase": dataclasses.replace(PAINT, steps=1)})
        untaught = Weights.load(run("gt_inpaint", talker, params)).quality
    finally:
        save(taught, talker.record("gt_inpaint", dataclasses.replace(KEYS, extractor=None)))
    quality = taught.quality
    assert quality["test_hidden_psnr"] > untaught["test_hidden_psnr"] + 0.5, (quality, untaught)
    assert quality["test_hidden_psnr"] > quality["test_pasted_hidden_psnr"]
    for name in ("seam", "face"):  # what need not be invented is not
        assert quality[f"test_{name}_psnr"] > quality[f"test_pasted_{name}_psnr"] - 0.2, (name, quality)
    assert (talker.preview("gt_inpaint", dataclasses.replace(KEYS, extractor=None)) / "strip.jpg").stat().st_size > 0


def test_a_head_speaks_and_hears_wrong_sound(talker, trained):
    rendering = Rendering.load(run("gt_render", talker))
    assert rendering.method == "gaussian_talker"
    assert rendering.variants == ["full", "mean_motion", "wrong_audio"]
    assert rendering.frame_index.tolist() == list(range(34, 44))
    stores = {name: np.stack(list(getattr(rendering, name))).astype(int) for name in rendering.variants}
    clip = Clip.load(talker.record("ingest", SPEAKER))
    for pictures in stores.values():
        assert pictures.shape == (10, SIZE, SIZE, 3)
        corner = [clip.frames[t][:2, :2] for t in range(34, 44)]  # where there is no face
        assert np.array_equal(pictures[:, :2, :2], np.stack(corner))
    assert np.abs(stores["full"] - stores["mean_motion"]).max() > 10
    assert np.abs(stores["full"] - stores["wrong_audio"]).max() > 10
    assert probe(talker.preview("gt_render", KEYS) / "side_by_side.mp4").width == 3 * SIZE


class Killed(BaseException):
    """Nothing in the project catches this."""


@pytest.mark.parametrize("stage", ["gt_motion", "gt_renderer", "gt_inpaint"])
def test_a_stage_goes_on_as_if_nothing_had_happened(talker, trained, stage, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)
    original, wanted = training.Progress, trained[stage]

    class Deadly(original):
        def update(self, count=1, note=""):
            super().update(count, note)
            if self.done == 31:
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training, "Progress", Deadly)
        with pytest.raises(Killed):
            run(stage, talker)
    resumed = Weights.load(run(stage, talker))
    assert resumed.quality["resumed"] == 1
    for name, tensor in wanted.tensors.items():
        assert np.array_equal(tensor, resumed.tensors[name]), name
    assert resumed.curves == wanted.curves


def test_another_head_model_than_the_tracked_one_is_refused(talker, trained):
    keys = SPEAKER
    track = HeadTrack.load(talker.record("track", keys))
    names = ["other", *track.expression_names[1:]]
    save(dataclasses.replace(track, expression_names=names), talker.record("track", keys))
    try:
        for stage in ("gt_motion", "gt_renderer", "gt_render"):
            with pytest.raises(InputError, match="tracked with the head model"):
                run(stage, talker)
    finally:
        save(track, talker.record("track", keys))
    weights = Weights.load(talker.record("gt_motion", KEYS))
    try:
        config = {**weights.config, "outputs": 7}
        save(dataclasses.replace(weights, config=config), talker.record("gt_motion", KEYS))
        with pytest.raises(InputError, match="7 numbers a frame"):
            run("gt_render", talker)
        config = {**weights.config, "speakers": ["other"]}
        save(dataclasses.replace(weights, config=config), talker.record("gt_motion", KEYS))
        with pytest.raises(InputError, match="no embedding for 'egg'"):
            run("gt_render", talker)
    finally:
        save(weights, talker.record("gt_motion", KEYS))


def test_another_network_than_the_record_says_is_refused(talker, trained):
    keys = dataclasses.replace(KEYS, extractor=None)
    weights = trained["gt_inpaint"]
    unknown, other = {**weights.config, "colour": 1}, {**weights.config, "width": 8}
    bare = {name: tensor for name, tensor in weights.tensors.items() if name != "reach"}
    wrong = [
        (dataclasses.replace(weights, config=unknown), "not known here"),
        (dataclasses.replace(weights, config=other), "another network than its record says"),
        (dataclasses.replace(weights, tensors=bare), "another network than its record says"),
    ]
    try:
        for given, words in wrong:
            save(given, talker.record("gt_inpaint", keys))
            with pytest.raises(InputError, match=words):
                run("gt_render", talker)
    finally:
        save(weights, talker.record("gt_inpaint", keys))


def test_frames_without_a_face_teach_nothing_and_too_few_are_refused(talker):
    keys = SPEAKER
    track = HeadTrack.load(talker.record("track", keys))
    gap, few = track.valid.copy(), track.valid.copy()
    gap[5:9], few[10:] = False, False
    expression = track.expression.copy()
    expression[5:9] = 1e3  # nonsense where there was no face
    params = gt_motion.TranslatorParams(**SMALL, phase=dataclasses.replace(SPEAK, steps=3))
    try:
        save(dataclasses.replace(track, valid=gap, expression=expression), talker.record("track", keys))
        weights = Weights.load(run("gt_motion", talker, params))
        assert max(weights.curves["loss"]) < 10
        assert np.abs(weights.tensors["rest"]).max() < 2
        save(dataclasses.replace(track, valid=few), talker.record("track", keys))
        with pytest.raises(InputError, match="10 frames to learn speech from"):
            run("gt_motion", talker, params)
    finally:
        save(track, talker.record("track", keys))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stage", ["gt_motion", "gt_renderer", "gt_inpaint"])
def test_presets_are_valid_and_explained(preset, stage, tmp_path):
    places = SimpleNamespace(params=tmp_path / "params.yaml")
    places.params.write_text(f"preset: {preset}\nscale: 0.5\n{stage}: {{}}\n")
    declared = MODULES[stage].STAGE
    params, words = resolve_params(places.params, stage, declared.params, declared.presets)
    told = explain(places, stage)
    assert told["steps"] == params.phase.steps
    assert told["rows"]
    assert all(1 <= row["first"] <= row["last"] <= told["steps"] for row in told["rows"])
    assert words == f"{preset}, steps x 0.5"
    if preset == "paper":
        expected = {"gt_motion": ("width", 512), "gt_renderer": ("gaussians", 10_522), "gt_inpaint": ("width", 32)}[
            stage
        ]
        assert getattr(params, expected[0]) == expected[1]


def test_preset_paper_translates_as_the_paper_says(tmp_path):
    (tmp_path / "params.yaml").write_text("preset: paper\ngt_motion: {}\n")
    declared = gt_motion.STAGE
    params, _ = resolve_params(tmp_path / "params.yaml", "gt_motion", declared.params, declared.presets)
    wanted = {"vertices": 1000, "parameters": 10, "smoothness": 1000, "latent": 1e-3}
    for step in (1, 2, 3):
        on = weights_at(params.phase, step)
        assert {name: on[name] for name in wanted} == wanted
    assert (params.encoder_layers, params.around, params.phase.opening) == (4, None, 0)
    assert params.phase.lips == 1  # all vertices count alike


def test_a_frame_moves_only_in_the_steps_that_draw_it():
    config = RendererConfig(shape="per_frame")
    heads = HeadTable(np.zeros(2), np.zeros((4, 3)), np.zeros((4, 0)), np.arange(4), config)
    learner = HeadLearner(heads, SimpleNamespace(blend=BlendShapes(config, 3)), RendererPhase())
    heads.at(1).expression.sum().backward()
    learner.step(frozenset())
    once = heads.expression.detach().clone()
    assert not once[[0, 2, 3]].any()
    assert (once[1] != 0).all()
    for _ in range(5):
        heads.at(2).expression.sum().backward()
        learner.step(frozenset())
    assert torch.equal(heads.expression[1], once[1])
    assert heads.expression[2].abs().min() > once[1].abs().max()


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("shape", ["fixed", "shared", "per_frame"])
def test_the_shape_is_learnt_as_often_as_asked_whatever_the_preset(preset, shape, tmp_path):
    (tmp_path / "params.yaml").write_text(f"preset: {preset}\ngt_renderer: {{shape: {shape}}}\n")
    declared = MODULES["gt_renderer"].STAGE
    params, _ = resolve_params(tmp_path / "params.yaml", "gt_renderer", declared.params, declared.presets)
    config = RendererConfig(shape=params.shape)
    heads = HeadTable(np.zeros(2), np.zeros((4, 3)), np.zeros((4, 0)), np.arange(3), config)
    learner = HeadLearner(heads, SimpleNamespace(blend=BlendShapes(config, 3)), params.phase)
    for frame in (0, 1, 1):
        heads_at = heads.at(frame)
        (heads_at.identity.sum() + heads_at.expression.sum()).backward()
        learner.step(frozenset())
    learnt = [bool(heads.at(frame).identity.any()) for frame in range(3)]
    assert learnt == {"fixed": [False] * 3, "shared": [True] * 3, "per_frame": [True, True, False]}[shape]


def test_a_frame_that_taught_nothing_has_the_mean_identity_of_those_that_did():
    heads = HeadTable(np.zeros(2), np.zeros((9, 3)), np.zeros((9, 0)), np.arange(3), RendererConfig(shape="per_frame"))
    with torch.no_grad():
        heads.shape[:3] = torch.tensor([[1.0], [2.0], [3.0]])
    assert heads.at(8).identity.tolist() == [2.0, 2.0]


@pytest.mark.parametrize(("stage", "part"), [("gt_renderer", "meens"), ("gt_motion", "decoder"), ("tg_fuse", "means")])
def test_what_cannot_be_frozen_is_refused(stage, part, tmp_path):
    (tmp_path / "params.yaml").write_text(f"{stage}: {{phase: {{frozen: [{{parts: [{part}]}}]}}}}\n")
    declared = importlib.import_module(f"tasks.{stage}").STAGE
    with pytest.raises(UsageError, match=f"'{part}' is no part that can be; those are"):
        resolve_params(tmp_path / "params.yaml", stage, declared.params, declared.presets)


def test_parts_of_gaussians_that_are_frozen_stay_as_they_began(talker, trained):
    frozen = (Frozen(("raw_opacities", "position_basis", "head")),)
    phase = dataclasses.replace(PARAMS["gt_renderer"].phase, steps=4, frozen=frozen)
    try:
        params = PARAMS["gt_renderer"].model_copy(update={"phase": phase})
        tensors = Weights.load(run("gt_renderer", talker, params)).tensors
    finally:
        save(trained["gt_renderer"], talker.record("gt_renderer", SPEAKER))
    assert np.ptp(tensors["gaussians/raw_opacities"]) == 0
    assert not tensors["gaussians/position_basis"].any()
    assert not tensors["head/expression"].any()
    assert tensors["gaussians/rotation_basis"].any()
