"""Plate and torso layer on pictures whose hidden parts are known."""

import cv2
import numpy as np
import pytest

from models.errors import UsageError
from models.layers import collect_plate, fill_smoothly, torso_layer
from models.parsing import labels as L

SIZE = 96
RAMP = np.arange(SIZE)
WALL = np.stack(np.broadcast_arrays(100 + RAMP[None], 140, 90 + RAMP[:, None]), 2).astype(np.uint8)


def person(x=48, head_color=(200, 150, 120), neck_color=(180, 120, 100)):
    """A head as a disc on a neck on shoulders, before a wall."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.uint8)
    labels[(rows > 76) & (np.abs(columns - x) < 34)] = L.CLOTH
    labels[(rows > 50) & (rows <= 76) & (np.abs(columns - x) < 9)] = L.NECK
    labels[(rows - 38) ** 2 + (columns - x) ** 2 < 20**2] = L.SKIN
    labels[(np.abs(rows - 46) < 3) & (np.abs(columns - x) < 6)] = L.MOUTH
    frame = WALL.copy()
    frame[labels == L.CLOTH] = (30, 60, 120)
    frame[labels == L.NECK] = neck_color
    frame[L.head(labels) | L.inside_mouth(labels)] = head_color
    return frame, labels


def test_plate_is_the_room_where_the_person_ever_leaves_it():
    plate = collect_plate((person(x) for x in range(28, 70, 3)), 3.0)
    assert np.abs(plate.colours[plate.seen].astype(int) - WALL[plate.seen]).max() <= 1
    assert plate.seen[:10].all()
    assert not plate.seen[-1, 48]


def test_plate_keeps_a_shadow_beside_the_person_out():
    frames = []
    for x in range(24, 74, 3):
        frame, labels = person(x)
        frame[30:40, min(x + 21, SIZE - 1) : x + 24] //= 2  # a shadow on the wall, close to the head
        frames.append((frame, labels))
    plate = collect_plate(frames, 0.0)
    assert np.abs(plate.colours[30:40, 30:66].astype(int) - WALL[30:40, 30:66]).max() <= 1


def test_frames_in_which_the_parser_missed_the_person_do_not_count():
    missed = [(person(x)[0], np.zeros((SIZE, SIZE), np.uint8)) for x in (40, 44, 48, 52, 56)]
    plate = collect_plate([*missed, *(person(x) for x in range(28, 70, 3)), *missed], 0.0)
    assert np.abs(plate.colours[plate.seen].astype(int) - WALL[plate.seen]).max() <= 1
    assert plate.seen[:10].all()
    assert not collect_plate(missed, 0.0).seen.any()


def test_unseen_room_is_filled_between_its_neighbours():
    plate = collect_plate([person()], 2.0)
    hidden = plate.colours[38, 48].astype(int)
    assert (hidden >= WALL.reshape(-1, 3).min(0) - 1).all()
    assert (hidden <= WALL.reshape(-1, 3).max(0) + 1).all()
    # the wall rises from left to right, and so does the fill
    assert plate.colours[38, 60, 0] > plate.colours[38, 36, 0]


def test_plate_needs_frames():
    with pytest.raises(UsageError, match="no frames"):
        collect_plate([], 5.0)


def test_fill_keeps_known_pixels_and_constant_pictures():
    known = np.random.default_rng(0).random((33, 47)) < 0.2
    picture = np.full((33, 47, 3), 7.0, np.float32)
    filled = fill_smoothly(np.where(known[..., None], picture, -50).astype(np.float32), known)
    assert np.allclose(filled, 7.0, atol=1e-3)
    ramp = np.random.default_rng(1).random((33, 47, 3)).astype(np.float32)
    assert np.array_equal(fill_smoothly(ramp, known)[known], ramp[known])


def test_fill_of_nothing_known_changes_nothing():
    picture = np.random.default_rng(2).random((5, 6, 3)).astype(np.float32)
    assert np.array_equal(fill_smoothly(picture, np.zeros((5, 6), bool)), picture)


def test_torso_is_the_frame_outside_the_head_and_goes_on_behind_it():
    frame, labels = person()
    layer = torso_layer(frame, labels, 0.4, 0.1)
    far_below = (labels == L.CLOTH) & (np.arange(SIZE)[:, None] > 80)
    assert np.array_equal(layer[far_below][:, :3], frame[far_below])
    assert (layer[L.torso(labels)][:, 3] == 255).all()
    behind_chin = layer[50:56, 48]
    assert (behind_chin[:, 3] == 255).all()
    # the neck's colour, darker further up; nothing of the head's or the room's
    assert layer[56, 48, :3] == pytest.approx(np.array([180, 120, 100]) * 0.98**5, abs=4)
    assert (np.diff(layer[48:56, 48, 0].astype(int)) >= 0).all()
    assert layer[20, 48, 3] == 0


def test_nothing_stands_where_the_frame_shows_the_room():
    """The corner of a collar beside the jaw would go on upwards along the outline of the head."""
    frame, labels = person()
    rows, columns = np.mgrid[:SIZE, :SIZE]
    across = np.abs(columns - 48)
    collar = (rows > 42 + 0.8 * np.abs(across - 19)) & (across > 9) & (rows < 78) & (labels == L.BACKGROUND)
    labels[collar], frame[collar] = L.CLOTH, (30, 60, 120)
    shown = torso_layer(frame, labels, 0.4, 0.2)[..., 3] > 0
    rim = cv2.dilate(L.torso(labels).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not (shown & (labels == L.BACKGROUND) & ~rim).any()
    assert shown[48:56, 41:56].all()  # behind the head it goes on


def test_a_neck_that_the_jaw_hides_on_one_side_is_continued_there_too():
    frame, labels = person()
    hidden = (labels == L.NECK) & (np.arange(SIZE) < 48)[None] & (np.arange(SIZE) > 57)[:, None]
    labels[hidden], frame[hidden] = L.CLOTH, (30, 60, 120)
    labels[(labels == L.NECK) & (np.arange(SIZE) < 48)[None]] = L.SKIN
    layer = torso_layer(frame, labels, 0.4, 0.1)
    left, right = layer[48:54, 41:45].astype(int), layer[48:54, 52:56].astype(int)
    assert (left[..., 3] == 255).all()
    assert np.abs(left[..., :3].mean((0, 1)) - right[..., :3].mean((0, 1))).max() < 20


def test_behind_the_hair_beside_a_neck_is_no_room():
    frame, labels = person()
    hair = (np.abs(np.abs(np.mgrid[:SIZE, :SIZE][1] - 48) - 14) < 6) & (np.mgrid[:SIZE, :SIZE][0] > 38)
    hair &= np.isin(labels, (L.BACKGROUND, L.CLOTH))
    labels[hair], frame[hair] = L.HAIR, (40, 25, 20)
    layer = torso_layer(frame, labels, 0.4, 0.1)
    for column in (39, 57):  # the neck reaches from 40 to 56
        assert (layer[60:76, column, 3] == 255).all()
        assert np.abs(layer[60:72, column, :3].astype(int) - (180, 120, 100)).max() < 20
    assert not layer[60:76, 64:, 3].any()


def test_a_dark_spot_under_the_chin_does_not_go_on_as_a_stripe():
    frame, labels = person()
    frame[56:64, 46:49][labels[56:64, 46:49] == L.NECK] = (60, 40, 30)
    layer = torso_layer(frame, labels, 0.4, 0.1)
    rising = layer[48:54, 42:55, 0].astype(int)
    assert (layer[48:54, 42:55, 3] == 255).all()
    assert np.abs(np.diff(rising, axis=1)).max() < 25  # of the spot's 120


def test_no_hole_shows_when_the_chin_moves_up():
    frame, labels = person()
    layer = torso_layer(frame, labels, 0.4, 0.1)
    _, opened = person()
    under_chin = (np.abs(np.arange(SIZE) - 48) < 7)[None] & (np.arange(SIZE)[:, None] > 46) & (opened > 0)
    assert (layer[under_chin][:, 3] == 255).all()


def test_hair_over_the_shoulder_leaves_torso_behind_it():
    frame, labels = person()
    strand = np.s_[70:90, 62:66]
    labels[strand], frame[strand] = L.HAIR, (250, 250, 0)
    layer = torso_layer(frame, labels, 0.4, 0.1)
    patch = layer[80:88, 62:66]
    assert (patch[..., 3] == 255).all()
    assert np.abs(patch[..., :3].astype(int) - (30, 60, 120)).max() < 6


def test_a_frame_without_a_person_has_an_empty_torso():
    layer = torso_layer(WALL, np.zeros((SIZE, SIZE), np.uint8), 0.3, 0.1)
    assert layer.shape == (SIZE, SIZE, 4)
    assert not layer.any()
