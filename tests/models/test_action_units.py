"""Action units on faces that move in a known way."""

import numpy as np
import pytest

from models.action_units import GAZE_SHAPES, SHAPES, from_blendshapes, from_geometry, from_intensities
from models.errors import UsageError
from models.face_curves import CHEEK, CHIN, INNER_BROW, LOWER_LID, MOUTH_CORNER, OUTER_BROW, UPPER_LID, face_on
from models.heads.mediapipe_points import IRISES, LIP_PAIRS

FRAMES = 200
TIME = np.arange(FRAMES)
ALWAYS = np.ones(FRAMES, bool)


def bump(centre, width=6.0):
    return np.exp(-0.5 * ((TIME - centre) / width) ** 2)


def faces(seed=0):
    """A still face in a frame fixed to the head, in IOD: x to the subject's left, y up."""
    rng = np.random.default_rng(seed)
    face = rng.uniform(-0.4, 0.4, (478, 2))
    face[[33, 133, 362, 263]] = (-0.5, 0), (-0.18, 0), (0.18, 0), (0.5, 0)
    for side, sign in ((0, -1), (1, 1)):
        face[list(UPPER_LID[side]), 1], face[list(LOWER_LID[side]), 1] = 0.05, -0.05
        face[list(INNER_BROW[side])] = (0.1 * sign, 0.25)
        face[list(OUTER_BROW[side])] = (0.45 * sign, 0.25)
        face[list(IRISES[side])] = (0.34 * sign, 0.0)
    return np.tile(face, (FRAMES, 1, 1))


def of(units, name):
    return units.intensity[:, units.names.index(name)]


def correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def test_blinks_come_out_at_full_strength_and_rest_at_zero():
    moving, closure = faces(), bump(40, 1.5) + bump(120, 1.5)
    for lid, sign in ((UPPER_LID, -1), (LOWER_LID, 1)):
        for side in lid:
            moving[:, list(side), 1] += sign * 0.045 * closure[:, None]
    blink = of(from_geometry(moving, ALWAYS, ALWAYS), "AU45")
    assert correlation(blink, closure) > 0.99
    assert blink[[40, 120]] == pytest.approx([5, 5], abs=0.1)
    assert np.abs(blink[70:90]).max() < 0.05


def test_without_a_blink_small_lid_movements_are_not_one():
    moving = faces()
    for side in UPPER_LID:
        moving[:, list(side), 1] += 0.004 * np.sin(TIME / 5)[:, None]
    assert of(from_geometry(moving, ALWAYS, ALWAYS), "AU45").max() < 1.5


def test_raised_brows_and_a_frown_are_told_apart():
    moving, raised, frown = faces(), bump(50), bump(140)
    for side, sign in ((0, -1), (1, 1)):
        inner, outer = list(INNER_BROW[side]), list(OUTER_BROW[side])
        moving[:, inner, 1] += (0.10 * raised - 0.06 * frown)[:, None]
        moving[:, outer, 1] += 0.06 * raised[:, None]
        moving[:, inner, 0] -= 0.05 * sign * frown[:, None]
    units = from_geometry(moving, ALWAYS, ALWAYS)
    for name, truth in (("AU01", raised), ("AU02", raised), ("AU04", frown)):
        assert correlation(of(units, name), truth) > 0.9, name
    assert of(units, "AU04")[50] < 0.5
    assert of(units, "AU01")[140] < 0.5


def test_parted_lips_follow_the_gap_without_smoothing():
    moving, gap = faces(), np.where(TIME % 7 == 0, 0.1, 0.0)
    for upper, lower in LIP_PAIRS:
        moving[:, upper] = (0.0, -0.7)
        moving[:, lower, 0] = 0.0
        moving[:, lower, 1] = -0.7 - gap
    parted = of(from_geometry(moving, ALWAYS, ALWAYS), "AU25")
    assert correlation(parted, gap) > 0.999
    assert parted.max() == pytest.approx(5)


def test_a_smile_is_told_from_a_dropping_jaw():
    moving, smile, jaw = faces(), bump(50), bump(140)
    moving[:, list(CHIN), 1] -= 0.2 * jaw[:, None]
    for side in MOUTH_CORNER:
        moving[:, list(side), 1] += (0.08 * smile - 0.12 * jaw)[:, None]
    units = from_geometry(moving, ALWAYS, ALWAYS)
    assert correlation(of(units, "AU12"), smile) > 0.97
    assert correlation(of(units, "AU26"), jaw) > 0.97
    assert of(units, "AU12")[140] < 0.5


def test_cheeks_that_stay_up_are_seen_through_the_noise_of_landmarks():
    moving, smile = faces(), 0.5 + 0.5 * np.sin(TIME / 20)
    for side in CHEEK:
        moving[:, list(side), 1] += 0.02 * smile[:, None]
    moving += np.random.default_rng(1).normal(0, 0.02, moving.shape)  # as large as the movement
    assert correlation(of(from_geometry(moving, ALWAYS, ALWAYS), "AU06"), smile) > 0.8


@pytest.mark.parametrize(("axis", "sign", "column"), [(1, -1, 0), (1, 1, 1), (0, -1, 2), (0, 1, 3)])
def test_irises_give_gaze_in_the_right_column(axis, sign, column):
    moving, look = faces(), bump(100, 15)
    for side in IRISES:
        moving[:, list(side), axis] += sign * 0.08 * 0.5 * look[:, None]
    gaze = from_geometry(moving, ALWAYS, ALWAYS).gaze
    assert gaze[100, column] == pytest.approx(0.5, abs=0.06)
    assert np.delete(gaze[100], column).max() < 0.02


def test_gaze_does_not_jump_while_the_eyes_are_closed():
    moving = faces()
    for lid, sign in ((UPPER_LID, -1), (LOWER_LID, 1)):
        for side in lid:
            moving[60:66, list(side), 1] += sign * 0.05
    for side in IRISES:
        moving[60:66, list(side)] += (0.3, 0.3)  # what a landmarker guesses behind a lid
    assert from_geometry(moving, ALWAYS, ALWAYS).gaze.max() < 0.05


def test_gaps_are_bridged_within_shots_and_flagged():
    moving, valid = faces(), ALWAYS.copy()
    for side in OUTER_BROW:
        moving[:, list(side), 1] += 0.1 * (TIME / FRAMES)[:, None]
    valid[90:110] = False
    moving[90:110] = np.nan
    units = from_geometry(moving, valid, ALWAYS)
    assert np.isfinite(units.intensity).all()
    assert np.isfinite(units.gaze).all()
    assert np.array_equal(units.measured, valid)
    brow = of(units, "AU02")
    assert (np.diff(brow[85:115]) >= -1e-4).all()
    cut = from_geometry(moving, valid, ALWAYS, cuts=[100])
    held = of(cut, "AU02")
    assert held[97] == pytest.approx(held[92], abs=0.05)


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_units_whose_landmarks_are_absent_are_left_out():
    moving = faces()
    moving[:, [i for side in IRISES for i in side]] = np.nan
    moving[:, [i for side in INNER_BROW for i in side]] = np.nan
    units = from_geometry(moving, ALWAYS, ALWAYS)
    assert "AU01" not in units.names
    assert "AU02" in units.names
    assert not units.gaze.any()
    with pytest.raises(UsageError, match="no action unit"):
        from_geometry(np.full_like(moving, np.nan), ALWAYS, ALWAYS)


def test_only_training_frames_decide_what_is_rest_and_what_is_full():
    moving, train = faces(), TIME < 100
    for side in OUTER_BROW:
        moving[:, list(side), 1] += (0.08 * bump(50) + 0.5 * bump(150))[:, None]
    alone = from_geometry(moving[:100], ALWAYS[:100], ALWAYS[:100])
    both = from_geometry(moving, ALWAYS, train)
    assert of(both, "AU02")[50] == pytest.approx(of(alone, "AU02")[50], rel=0.02)
    with pytest.raises(UsageError, match="training frame"):
        from_geometry(moving, ALWAYS, np.zeros(FRAMES, bool))


NAMES = sorted({name for shapes, _ in SHAPES.values() for name in shapes} | {n for g in GAZE_SHAPES for n in g})


def test_blendshapes_are_scaled_and_silent_ones_stay_silent():
    scores = np.full((FRAMES, len(NAMES)), 0.02)
    scores += np.random.default_rng(0).normal(0, 0.002, scores.shape)
    scores[:, NAMES.index("eyeBlinkLeft")] += 0.8 * bump(60, 1.5)
    scores[:, NAMES.index("eyeBlinkRight")] += 0.8 * bump(60, 1.5)
    scores[:, NAMES.index("eyeLookOutLeft")] += 0.4 * bump(120)
    scores[:, NAMES.index("eyeLookInRight")] += 0.4 * bump(120)
    units = from_blendshapes(scores, NAMES, faces(), ALWAYS, ALWAYS)
    assert of(units, "AU45")[60] > 4.0
    assert correlation(of(units, "AU45"), bump(60, 1.5)) > 0.99
    assert of(units, "AU06").max() < 1.0
    assert np.argmax(units.gaze[120]) == 3
    assert {"AU05", "AU25"} <= set(units.names)


def test_a_unit_whose_score_is_silent_is_taken_from_the_fit_and_trusted_less():
    scores = np.full((FRAMES, len(NAMES)), 0.01)
    scores[:, NAMES.index("browOuterUpLeft")] += 0.4 * bump(90)
    scores[:, NAMES.index("browOuterUpRight")] += 0.4 * bump(90)
    fitted = {f"mouthFrown_{side}": 0.3 * bump(50) for side in "LR"}
    fitted |= {f"browOuterUp_{side}": 0.3 * bump(20) for side in "LR"}
    fitted |= {f"cheekSquint_{side}": 0.3 * bump(20) for side in "LR"}
    fitted |= {f"browInnerUp_{side}": 0.2 * bump(140) for side in "LR"}
    units = from_blendshapes(scores, NAMES, faces(), ALWAYS, ALWAYS, fitted=fitted)
    assert correlation(of(units, "AU15"), bump(50)) > 0.99
    assert correlation(of(units, "AU01"), bump(140)) > 0.99
    assert correlation(of(units, "AU02"), bump(90)) > 0.99  # its score moves, so the fit is not asked
    assert {name: units.origins[name].level for name in ("AU01", "AU02", "AU15")} == {
        "AU01": "weak",
        "AU02": "solid",
        "AU15": "weak",
    }
    assert "fitted mouthFrown" in units.origins["AU15"].source
    # Nobody sees a raised cheek: the unit is there for the method, always 0, and says so.
    assert units.origins["AU06"].level == "absent"
    assert not of(units, "AU06").any()
    assert not units.origins["AU06"].moves
    assert units.origins["AU02"].moves
    assert not units.origins["AU04"].moves


def test_the_blink_is_read_from_the_fitted_lids():
    scores = np.full((FRAMES, len(NAMES)), 0.1)
    fitted = {f"eyeBlink_{side}": 0.15 + 0.7 * bump(60, 1.5) for side in "LR"}
    blink = from_blendshapes(scores, NAMES, faces(), ALWAYS, ALWAYS, fitted=fitted)
    assert of(blink, "AU45")[60] > 4.5
    assert of(blink, "AU45")[100] < 0.1


@pytest.mark.parametrize("level", [0.8, 0.02])
def test_eyes_that_are_always_closed_or_always_open_give_a_constant_blink(level):
    scores = np.full((FRAMES, len(NAMES)), level)
    units = from_blendshapes(scores, NAMES, faces(), ALWAYS, ALWAYS)
    assert np.isfinite(units.intensity).all()
    assert of(units, "AU45") == pytest.approx(5.0 if level > 0.5 else 0.0)
    assert not units.origins["AU45"].moves
    shut = faces()
    if level > 0.5:
        for lid in (UPPER_LID, LOWER_LID):
            for side in lid:
                shut[:, list(side), 1] *= 0.05
    assert of(from_geometry(shut, ALWAYS, ALWAYS), "AU45") == pytest.approx(5.0 if level > 0.5 else 0.0, abs=0.3)


def test_intensities_of_another_tool_keep_their_scale_but_for_blink_and_parted_lips():
    given = {"AU12": 3 * bump(50), "AU45": 4 * bump(90, 2), "AU25": np.where(TIME == 7, 5.0, 1.0)}
    units = from_intensities(given, np.zeros((FRAMES, 4)), ALWAYS, ALWAYS)
    assert of(units, "AU12").max() == pytest.approx(3.0)
    assert of(units, "AU45")[90] == pytest.approx(5.0)  # 2 is a closed eye there
    assert of(units, "AU45")[87] == pytest.approx(2.5 * min(2, given["AU45"][87]), rel=1e-4)
    assert of(units, "AU25").max() == pytest.approx(1.0)
    never = {"AU25": np.zeros(FRAMES), "AU45": np.zeros(FRAMES)}
    assert not from_intensities(never, np.zeros((FRAMES, 4)), ALWAYS, ALWAYS).intensity.any()


def test_missing_blendshapes_are_named():
    names = [n for n in NAMES if n != "eyeBlinkLeft"]
    with pytest.raises(UsageError, match="eyeBlinkLeft"):
        from_blendshapes(np.zeros((FRAMES, len(names))), names, faces(), ALWAYS, ALWAYS)


def test_face_on_takes_the_pose_out_of_the_landmarks():
    rng = np.random.default_rng(1)
    rest = rng.uniform(-0.06, 0.06, (478, 3))
    rest[33], rest[263] = (-0.045, 0.03, 0.0), (0.045, 0.03, 0.0)
    intrinsics = np.array([[600.0, 0, 128], [0, 600.0, 128], [0, 0, 1]])
    poses, points = [], []
    flip = np.diag([-1.0, -1.0, -1.0]) @ np.diag([-1.0, 1.0, 1.0])  # head to camera axes: y down, z away
    for yaw, pitch in ((0, 0), (0.3, 0.1), (-0.2, -0.15)):
        turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        nod = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = flip @ turn @ nod, (0.01, -0.02, 0.8)
        camera = rest @ pose[:3, :3].T + pose[:3, 3]
        image = camera @ intrinsics.T
        poses.append(pose)
        points.append(image[:, :2] / image[:, 2:])
    seen = face_on(np.array(points), np.array(poses), intrinsics, np.arange(478), rest)
    expected = rest[:, :2] / 0.09
    assert np.abs(seen - expected).max() < 1e-6
