"""Options of the heads' networks: what each changes, and that nothing changes without them."""

import pytest
import torch
from head_parts import CONFIG, face_motion, field, sound

from models.errors import UsageError
from models.methods.talking_gaussian import Config


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
