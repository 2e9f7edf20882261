"""GaussianTalker's parts: who hears what, what the losses ask for, and what a frame is told."""

import dataclasses

import numpy as np
import pytest
import torch
from tiny_head import make_jointed_head, make_tiny_head

from models.demo.head_model import build as make_demo_head
from models.errors import InputError
from models.gaussians.camera import Camera
from models.gaussians.rasterize import Raster
from models.heads.mediapipe_points import BROW_RINGS, EYE_RINGS, LIP_POINTS
from models.heads.mouth_parts import with_mouth
from models.heads.rig import Rig, face_mesh
from models.methods.gaussian_talker import (
    Mouthing,
    Renderer,
    color_first,
    compose,
    first_gaussians,
    followed,
    latent_distance,
    motion_losses,
    renderer_losses,
    spoken_expressions,
)
from models.methods.gaussian_talker_config import RendererConfig, TranslatorConfig
from models.methods.gaussian_talker_networks import BlendShapes, HeadTable, Translator, tokens_of
from models.methods.gaussian_talker_phases import RendererPhase
from models.schedule import weights_at

SMALL = {"audio_size": 5, "outputs": 4, "width": 16, "inner": 32, "heads": 2, "encoder_layers": 2, "span": 24}


def translator(**options):
    torch.manual_seed(0)
    net = Translator(TranslatorConfig(**{**SMALL, "speakers": ("a", "b"), **options})).eval()
    torch.nn.init.normal_(net.last.weight, std=0.3)
    torch.nn.init.normal_(net.colour.weight, std=0.1)
    return net


# ------------------------------------------------------------------------------------------------------- speaking


def test_the_papers_sizes():
    net = Translator(TranslatorConfig())
    assert len(net.encoder.layers) == 4
    assert len(net.decoder.layers) == 1
    assert net.encoder.layers[0].linear1.out_features == 1024
    assert net.decoder.layers[0].self_attn.num_heads == 4
    assert [layer.out_features for layer in net.mlp if isinstance(layer, torch.nn.Linear)] == [512] * 3
    parameters = {id(part) for part in net.parameters()}
    assert {id(part) for part in [*net.universal, *net.own]} == parameters
    assert not {id(part) for part in net.universal} & {id(part) for part in net.own}


def test_two_entries_nearest_to_a_frame_are_heard():
    values = torch.arange(3 * 2 * 16.0).view(3, 2, 16)
    nearest = [values[:, 0, 7], values[:, 1, 7], values[:, 0, 8], values[:, 1, 8]]
    torch.testing.assert_close(tokens_of(values), torch.stack(nearest, 1))
    assert tokens_of(values[..., :2]).shape == (3, 4)


@pytest.mark.parametrize("causal", [False, True])
def test_a_causal_translator_does_not_hear_what_comes(causal):
    net = translator(causal=causal, reach=3)
    tokens = torch.randn(1, 20, 10)
    later = tokens.clone()
    later[:, 12:] += 3
    before, after = (net(heard, torch.tensor([0])) for heard in (tokens, later))
    assert not torch.allclose(before[:, 12:], after[:, 12:])
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-6) == causal


def test_motion_attends_to_the_sound_within_reach():
    net = translator(reach=2, decoder_layers=1)
    content, who = torch.randn(1, 20, 16), torch.tensor([0])
    with torch.no_grad():
        for layer in net.decoder.layers:  # without this, frames hear of it by each other
            layer.self_attn.out_proj.weight.zero_()
    changed = content.clone()
    changed[:, 10] += 2
    moved = (net.decode(changed, who) - net.decode(content, who)).abs().amax((0, 2))
    assert torch.nonzero(moved > 1e-6).flatten().tolist() == [8, 9, 10, 11, 12]


@pytest.mark.parametrize(("around", "first", "last"), [(None, 0, 19), (1, 8, 12)])
def test_every_layer_attends_to_the_frames_around(around, first, last):
    net = translator(around=around, decoder_layers=3, reach=0)  # two layers each: the first knows no sound yet
    who = torch.tensor([0])
    for hear, size in ((net.encode, 10), (lambda content: net.decode(content, who), 16)):
        given = torch.randn(1, 20, size)
        changed = given.clone()
        changed[:, 10] += 2
        moved = (hear(changed) - hear(given)).abs().amax((0, 2))
        assert torch.nonzero(moved > 1e-7).flatten().tolist() == list(range(first, last + 1))


def test_speakers_move_in_their_own_way_and_are_still_at_first():
    tokens = torch.randn(2, 20, 10)
    net = Translator(TranslatorConfig(**SMALL, speakers=("a", "b"))).eval()
    net.rest[:] = torch.tensor([[1.0], [2.0]])
    still = net(tokens, torch.tensor([0, 1]))
    torch.testing.assert_close(still, net.rest[:, None].expand_as(still))
    net = translator()
    motion = net(tokens[:1].expand(2, -1, -1), torch.tensor([0, 1]))
    assert not torch.allclose(motion[0], motion[1])
    with pytest.raises(InputError, match="no embedding for 'c'"):
        net.config.speaker("c")


@pytest.mark.parametrize("frames", [1, 5, 24, 25, 100])
def test_a_recording_of_any_length_is_translated(frames):
    net, values = translator(), torch.randn(frames, 5, 16)
    spoken = net.speak(values, 1)
    assert spoken.shape == (frames, 4)
    assert torch.isfinite(spoken).all()
    if frames <= 24:
        torch.testing.assert_close(spoken, net(tokens_of(values)[None], torch.tensor([1]))[0])
    else:  # windows are blended: no seam is larger than what happens elsewhere
        steps = (spoken[1:] - spoken[:-1]).norm(dim=1)
        assert steps.max() < 6 * steps.median()


def mouthing(model, frames=6, seed=0):
    random = np.random.default_rng(seed)
    corners = np.unique(model.landmark_triangle)
    jaw = random.normal(0, 0.1, (frames, 0 if model.skeleton is None else 3))
    known = (np.zeros(len(model.identity)), random.uniform(0, 0.5, (frames, len(model.expression))), jaw)
    tensors = [torch.tensor(part, dtype=torch.float32) for part in known]
    lips = torch.ones(len(corners), dtype=torch.bool)
    follows = torch.tensor(followed(model), dtype=torch.float32)
    return Mouthing(Rig(model, corners), *tensors, spoken_expressions(model), follows, lips)


def test_of_named_expressions_those_of_the_mouth_are_spoken():
    model = make_tiny_head()
    names = [model.expression_names[number] for number in spoken_expressions(model)]
    assert names == ["jaw_open", "smile_left", "smile_right", "pucker"]
    jointed = make_jointed_head()
    assert spoken_expressions(jointed) == tuple(range(len(jointed.expression)))


def test_lids_and_brows_follow_the_clip_where_every_expression_moves_all_of_the_face():
    plain = make_jointed_head()
    mix = np.linalg.qr(np.random.default_rng(3).normal(size=(len(plain.expression),) * 2))[0]
    model = dataclasses.replace(plain, expression=np.tensordot(mix, plain.expression, 1))
    shut, smiling = mix @ [2.5, 2.5, 0, 0, 2, 0], mix @ [0, 0, 2, 2, 0, 1]  # lids, lids, smile, smile, brows, pucker
    face = mouthing(model)
    face.expression[:] = torch.tensor(np.stack([shut, shut + smiling, 0 * shut, 0 * shut, smiling, smiling]))
    numbers = torch.cat([torch.tensor(smiling), torch.zeros(3)]).float()[None].expand(6, -1)
    told = face.coefficients(numbers, torch.arange(6))[0].double().numpy()
    eyes = model.rows_of((*EYE_RINGS[0], *EYE_RINGS[1], *BROW_RINGS[0], *BROW_RINGS[1]))
    lips = model.rows_of(LIP_POINTS)
    moved, clips, spoken = (
        np.tensordot(numbers, model.at_landmarks(model.expression), 1)
        for numbers in (told, face.expression.double().numpy(), np.tile(smiling, (6, 1)))
    )
    # Whatever the clip's mouth does meanwhile, its lids and brows are taken and its lips are not.
    size = np.abs(clips[0, eyes]).max()
    assert np.abs(moved[:, eyes] - clips[:, eyes]).max() < 0.1 * size
    assert np.abs(moved[:, lips] - spoken[:, lips]).max() < 0.02 * np.abs(spoken[:, lips]).max()
    assert not followed(make_tiny_head()).any()


@pytest.mark.parametrize("head", [make_tiny_head, make_jointed_head])
def test_losses_are_zero_only_for_equal_motion(head):
    face = mouthing(head())
    truth, frames = face.truth, torch.arange(6)
    assert face.outputs == truth.shape[1]
    on = {"vertices": 1000.0, "parameters": 10.0, "smoothness": 1000.0}

    def terms(numbers, known=None, follows=None):
        return motion_losses(
            numbers,
            truth,
            face.vertices(numbers, frames),
            face.vertices(truth, frames),
            torch.ones(6) if known is None else known,
            torch.ones(6, dtype=torch.bool) if follows is None else follows,
            torch.ones(len(face.lips)),
            on,
        )

    assert set(terms(truth)) == set(on)
    assert all(value.item() == 0 for value in terms(truth).values())
    for number in range(face.outputs):
        wrong = truth.clone()
        wrong[2, number] += 0.1
        assert all(value.item() > 0 for value in terms(wrong).values()), number
        unknown = torch.ones(6)
        unknown[2] = 0
        assert all(value.item() == 0 for value in terms(wrong, unknown).values())
    # The same error in all frames is no unevenness; nor is a jump where the shot changes.
    assert terms(truth + 0.1)["smoothness"].item() < 0.05 * terms(truth + 0.1)["vertices"].item()
    jump = truth + 0.1 * (torch.arange(6)[:, None] >= 3)
    cut = torch.arange(6) != 3
    assert terms(jump, follows=cut)["smoothness"].item() < 0.1 * terms(jump)["smoothness"].item()


def test_a_millimetre_costs_a_thousandth():
    vertices = torch.randn(4, 7, 3)
    on = {"vertices": 1000.0}
    zero, all_known = torch.zeros(4, 2), (torch.ones(4), torch.ones(4, dtype=torch.bool))
    moved = vertices + torch.tensor([1e-3, 0, 0])
    found = motion_losses(zero, zero, moved, vertices, *all_known, torch.rand(7) + 1, on)
    assert found["vertices"].item() == pytest.approx(1e-3, rel=1e-3)


def test_voices_are_compared_by_what_changes():
    content = torch.randn(2, 30, 8)
    assert latent_distance(content, content).item() == pytest.approx(0, abs=1e-6)
    assert latent_distance(content, content + 5).item() == pytest.approx(0, abs=1e-5)
    assert latent_distance(content + 5, torch.randn(2, 30, 8) + 5).item() > 0.8


# ------------------------------------------------------------------------------------------------------ rendering


def renderer(count=3000, head=make_tiny_head, **options):
    torch.manual_seed(0)
    model = with_mouth(head())
    mesh, config = face_mesh(model), RendererConfig(**{"sh_degree": 1, "color_bands": 4, **options})
    rig = Rig(model, mesh.vertices)
    shown = np.ones(len(mesh.triangles), bool)
    field = first_gaussians(mesh, shown, model.neutral[mesh.vertices], count, RendererPhase(opacity=0.9), config, 0)
    angles = 0 if model.skeleton is None else 3
    blend = BlendShapes(config, len(model.expression) + angles)
    return Renderer(rig, torch.from_numpy(mesh.triangles).long(), field, blend), model, mesh, config


def table(model, config, frames=8, learnt=6, seed=0):
    random = np.random.default_rng(seed)
    jaw = np.zeros((frames, 0 if model.skeleton is None else 3))
    expression = random.uniform(0, 0.4, (frames, len(model.expression)))
    return HeadTable(np.zeros(len(model.identity)), expression, jaw, np.arange(learnt), config)


CAMERA = Camera(
    torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0.6], [0, 0, 0, 1]]),
    torch.tensor([[150.0, 0, 32], [0, 150, 32], [0, 0, 1]]),
    64,
    64,
)


def test_a_face_is_drawn_where_its_mesh_is_and_moves_with_it():
    drawn, model, mesh, config = renderer()
    told = table(model, config).at(0)
    image = np.zeros((64, 64, 3), np.uint8)
    image[...] = [200, 100, 50]
    color_first(drawn, mesh.inside, told, image, CAMERA)
    with torch.no_grad():
        still = drawn.draw(CAMERA, told)
        moved = drawn.draw(CAMERA, told._replace(translation=torch.tensor([0.02, 0.0, 0.0])))
    assert still.alpha[32, 32] > 0.9
    assert still.alpha[2, 2] == 0
    color = still.image[25, 25] / still.alpha[25, 25]
    torch.testing.assert_close(color, torch.tensor([200.0, 100, 50]) / 255, rtol=0, atol=0.05)
    columns = torch.arange(64.0)
    places = [(raster.alpha.sum(0) * columns).sum() / raster.alpha.sum() for raster in (still, moved)]
    assert places[1] - places[0] == pytest.approx(0.02 * 150 / 0.53, rel=0.1)
    open_mouth = told.expression.clone()
    open_mouth[model.expression_names.index("jaw_open")] = 1
    assert (drawn.place(told._replace(expression=open_mouth)).means - drawn.place(told).means)[:, 1].min() < -0.01


def test_the_skin_is_drawn_without_what_is_inside_the_mouth():
    drawn, model, mesh, config = renderer(head=make_demo_head)
    told = table(model, config).at(0)
    expression = torch.eye(len(model.expression))[model.expression_names.index("jaw")]
    told = told._replace(expression=expression)
    lips = model.at_landmarks(model.vertices(None, expression.numpy()))
    x, y, z = lips[model.rows_of((13, 14))].mean(0)
    row, column = round(float(32 - 150 * y / (0.6 - z))), round(float(32 + 150 * x / (0.6 - z)))
    inside = torch.from_numpy(mesh.inside)
    whole, skin = drawn.draw(CAMERA, told), drawn.draw(CAMERA, told, left_out=inside)
    assert whole.alpha[row, column] > 0.8
    assert skin.alpha[row, column] < 0.3
    torch.testing.assert_close(skin.alpha[20], whole.alpha[20])  # above the mouth
    assert not drawn.draw(CAMERA, told, left_out=torch.ones_like(inside)).alpha.any()
    skin.image.sum().backward()
    moved = drawn.gaussians.raw_opacities.grad.abs().flatten() > 0
    hidden = inside[drawn.gaussians.faces]
    assert not moved[hidden].any()
    assert moved[~hidden].any()


def test_gradients_reach_gaussians_bases_weights_and_head():
    drawn, model, _, config = renderer(head=make_jointed_head)
    with torch.no_grad():
        drawn.gaussians.position_basis += 0.05
    size = drawn.blend.middle.numel()
    drawn.blend.learn(np.random.default_rng(0).normal(0, 1, (40, size)), np.ones(size), config, 3)
    heads = table(model, RendererConfig(shape="shared"))
    raster = drawn.draw(CAMERA, heads.at(2))
    (raster.image.square().sum() + raster.alpha[:, :30].sum()).backward()
    for name, tensor in drawn.gaussians.tensors().items():
        if tensor.is_floating_point():
            assert tensor.grad is not None, name
            assert tensor.grad.abs().max() > 0, name
    assert all(part.grad.abs().max() > 0 for part in drawn.blend.parameters())
    for name, part in heads.named_parameters():
        gradient = part.grad.coalesce()
        assert gradient.values().abs().max() > 0, name
        assert gradient.indices().tolist() == [[0 if name == "shape" else 2]], name


def test_head_parameters_do_not_drift_away_from_frames_that_are_not_learnt():
    model, config = make_tiny_head(), RendererConfig(shape="per_frame")
    heads = table(model, config)
    with torch.no_grad():
        for part in (heads.expression, heads.orient, heads.translation):
            part[:6] += 0.5  # what all have in common means nothing
            part[1] += 0.1
    for frame in (6, 7):  # not learnt
        told = heads.at(frame)
        assert torch.equal(told.expression, heads.tracked_expression[frame])
        assert not told.orient.any()
    torch.testing.assert_close(heads.at(1).translation, torch.full((3,), 0.1 * 5 / 6))
    total = sum(heads.at(frame).expression - heads.tracked_expression[frame] for frame in range(6))
    torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-6)
    assert len(heads.shape) == 8
    assert len(table(model, RendererConfig(shape="shared")).shape) == 1


@pytest.mark.parametrize("latent", ["first", "components"])
def test_the_latent_pose_is_the_clips_own_scale(latent):
    random, config = np.random.default_rng(0), RendererConfig(latent=latent)
    motions = np.concatenate([random.normal(0.3, 0.2, (300, 20)), random.normal(0, 0.02, (300, 3))], 1)
    motions = motions.astype(np.float32)
    motions[:, 5] = 0.1  # never moves
    blend = BlendShapes(config, 23)
    blend.learn(motions, np.linspace(1, 2, 23), config, 3)
    pose = (torch.from_numpy(motions) - blend.middle) @ blend.directions.T
    deviation = pose.std(0, unbiased=False)
    if latent == "first":
        assert deviation[5] == 0
        torch.testing.assert_close(deviation[[*range(5), *range(6, 16)]], torch.ones(15), rtol=1e-3, atol=1e-3)
        assert set(torch.nonzero(blend.directions)[:, 1].tolist()) == {*range(5), *range(6, 13), 20, 21, 22}
    else:
        torch.testing.assert_close(deviation, torch.ones(16), rtol=1e-3, atol=1e-3)
        assert (np.corrcoef(pose.T.numpy()) - np.eye(16)).max() < 1e-3
    few = BlendShapes(config, 3)
    few.learn(motions[:, :3], np.ones(3), config, 0)
    assert not few.directions[3:].any()


def test_renderer_losses_look_at_the_face_and_hold_gaussians_to_it():
    drawn, _, _, _ = renderer(400)
    field, phase = drawn.gaussians, RendererPhase()
    on = {**weights_at(phase, phase.steps), "structure": 0.2, "position": 1.0, "scale": 1.0}
    face = torch.zeros(20, 20, dtype=torch.bool)
    face[5:15, 5:15] = True
    target, lips = torch.rand(20, 20, 3), (8, 8, 12, 12)

    def terms(image, alpha, seen=True):
        radii = torch.full((len(field),), int(seen), dtype=torch.int32)
        raster = Raster(image, alpha, alpha, radii, torch.zeros(len(field), 2))
        return renderer_losses(raster, target, face, lips, field, phase, on)

    with torch.no_grad():
        field.means[:] = 0.0
        field.means[0] = torch.tensor([0.0, 0.0, 0.85])
        field.raw_scales[:] = 0.0
        field.raw_scales[1, 2] = 5.0
    found = terms(target, face.float())
    assert found["image"] == found["mouth_box"] == found["silhouette"] == 0
    assert found["structure"].item() == pytest.approx(0, abs=1e-5)
    assert found["position"].item() == pytest.approx(0.8 / len(field), rel=1e-4)
    assert found["scale"].item() == pytest.approx(3.0067 / len(field), rel=1e-3)
    assert terms(target, face.float(), seen=False)["position"] == 0
    elsewhere = target + 0.5 * ~face[..., None]
    assert terms(elsewhere, face.float())["image"] == 0
    assert terms(elsewhere, face.float())["structure"].item() == pytest.approx(0, abs=1e-5)
    assert terms(target + 0.1, face.float())["image"].item() == pytest.approx(0.1, rel=1e-4)
    assert terms(target, torch.zeros(20, 20))["silhouette"].item() == pytest.approx(0.5 * 100 / 400)


def test_no_second_chin_shows_below_the_new_one():
    frame, torso = torch.full((12, 12, 3), 0.8), torch.zeros(12, 12, 4)
    own = torch.zeros(12, 12, dtype=torch.bool)
    own[2:10, 3:9] = True  # its own face reaches down to row 9
    torso[6:] = torch.tensor([0.1, 0.2, 0.3, 1.0])
    alpha = torch.zeros(12, 12)
    alpha[2:8, 3:9] = 1.0  # the new one to row 7
    new = Raster(0.5 * alpha[..., None].expand(12, 12, 3), alpha, alpha, torch.zeros(1), torch.zeros(1, 2))
    image = compose(new, frame, torso, own)
    torch.testing.assert_close(image[3, 4], torch.full((3,), 0.5))
    torch.testing.assert_close(image[8, 4], torso[8, 4, :3])  # neck, not the old chin
    torch.testing.assert_close(image[0, 0], frame[0, 0])
    torch.testing.assert_close(image[11, 0], frame[11, 0])  # what is not the face stays as it was filmed
