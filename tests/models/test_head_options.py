"""Options of the heads' networks: what each changes, and that nothing changes without them."""

import pytest
import torch
from head_parts import CONFIG, camera, face_motion, field, mouth_motion, sound

from models.errors import UsageError
from models.methods.talking_gaussian import Config, Deformation, draw


def test_a_head_stored_before_an_option_existed_has_none_of_them():
    old = {"audio_size": 29, "sh_degree": 1, "bound_m": 0.15, "grid_levels": 12, "grid_layout": "torch_ngp"}
    old |= {"face_grid": [16, 38.4], "mouth_grid": [64, 57.6], "motion_m": 0.01, "mouth_directions": [0.2, 1.0, 0.2]}
    assert Config.from_record(old) == Config(audio_size=29)
    assert {name: tuple(tensor.shape) for name, tensor in face_motion().decoder.state_dict().items()} == {
        "0.weight": (64, 36 + 32 + 10),
        "2.weight": (64, 64),
        "4.weight": (10, 64),
    }


# ------------------------------------------------------------------------------------- what the face is told


def test_the_face_listens_to_every_number_it_is_told_and_blinks_by_itself():
    motion = face_motion(action_units=("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU45"), gaze=False)
    points, told = motion.look_up(field().means), torch.rand(1, 7, requires_grad=True)
    motion(points, sound(1), told).means.square().sum().backward()
    assert told.grad is not None
    assert (told.grad != 0).all()
    assert points.expression_attention.shape == (60, 7)
    assert motion.units.weights[0].shape == (16, 6)  # the blink does not pass it


@pytest.mark.parametrize("units", [(), ("AU45",), ("AU45", "AU01"), ("AU01", "AU02"), ("AU01", "AU45", "AU45")])
def test_the_blink_is_the_last_of_several(units):
    with pytest.raises(UsageError, match="AU45 last"):
        Config(action_units=units)


def test_options_go_into_the_record_and_come_back():
    config = Config(action_units=("AU01", "AU45"), gaze=False)
    assert Config.from_record(config.as_record()) == config
    assert CONFIG.told[-4:] == ("gaze down", "gaze up", "gaze right", "gaze left")


# ---------------------------------------------------------------------------------------------- what moves


def expression(size=CONFIG.expression_size):
    return torch.rand(3, size, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize(("moves", "parts", "outputs"), [("geometry", 3, 10), ("opacity", 4, 11), ("color", 5, 14)])
def test_opacity_and_colour_move_only_if_asked_to_and_not_at_first(moves, parts, outputs):
    motion, gaussians = face_motion(moves=moves), field()
    deformation = motion(motion.look_up(gaussians.means), sound(), expression())
    assert [part is not None for part in deformation] == [True] * parts + [False] * (5 - parts)
    assert motion.decoder.weights[-1].shape == (outputs, 64)
    shapes = [(3, 60, 3), (3, 60, 4), (3, 60, 3), (3, 60), (3, 60, 3)]
    assert [tuple(part.shape) for part in deformation[:parts]] == shapes[:parts]
    still = deformation._replace(raw_opacities=None, colors=None).frame(1)
    view, behind = camera(), torch.tensor([0.1, 0.5, 0.2])
    whole = draw(gaussians, view, deformation.frame(1), behind)
    assert torch.equal(whole.image, draw(gaussians, view, still, behind).image)
    weights = torch.linspace(0.5, 1, 48)[:, None]
    ((whole.image - 0.3).square() * weights).sum().backward()
    learns = motion.decoder.weights[-1].grad.abs().sum(1) > 0
    assert learns.all()  # every output, though those of appearance begin at zero


def test_opacities_change_before_the_sigmoid_and_colours_as_they_are_seen():
    gaussians, view = field(), camera()
    zero = torch.zeros(60, 3)
    fainter = draw(gaussians, view, Deformation(zero, raw_opacities=torch.full((60,), -1.0)))
    again = field()
    with torch.no_grad():
        again.raw_opacities -= 1
    assert torch.equal(fainter.image, draw(again, view).image)

    redder = draw(gaussians, view, Deformation(zero, colors=torch.tensor([0.2, 0.0, 0.0]).expand(60, 3)))
    plain = draw(gaussians, view)
    torch.testing.assert_close(redder.image[..., 0], plain.image[..., 0] + 0.2 * plain.alpha)
    assert torch.equal(redder.image[..., 1:], plain.image[..., 1:])
    dark = draw(gaussians, view, Deformation(zero, colors=torch.full((60, 3), -9.0)))
    assert torch.equal(dark.image, torch.zeros_like(dark.image))
    assert torch.equal(dark.alpha, plain.alpha)


def test_the_mouth_moves_its_places_alone():
    motion = mouth_motion(moves="color")
    assert motion(motion.look_up(field().means), sound())[1:] == (None,) * 4


def test_deformations_add_up_part_by_part():
    motion = face_motion(moves="color")
    torch.nn.init.normal_(motion.decoder.weights[-1])
    batch = motion(motion.look_up(field().means), sound(), expression())
    mean = batch.frame(0).plus(batch.frame(1)).plus(batch.frame(2)).over(3)
    for part, of_all in zip(mean, batch, strict=True):
        torch.testing.assert_close(part, of_all.mean(0))
    assert mean.plus(mean._replace(colors=None)).colors is None
