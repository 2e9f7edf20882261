"""What a head does besides its lips: without jumps, as asked, and nothing else."""

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from speaking_egg import SPEAKER, make_speaking_egg, save

from models.errors import InputError, UsageError
from models.heads.motion import jaw_pixels, mean_pose
from models.methods.talking_gaussian_config import ACTION_UNITS, Config
from models.records import HeadTrack, RefinedPoses
from tasks.acting import Acting, blink_closures, perform
from tasks.places import Keys, Places
from tasks.scene import Scene, expressions_of, poses_of
from tasks.shots import back_and_forth, longest_shot

LIDS = ACTION_UNITS.index("AU45")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return make_speaking_egg(tmp_path_factory.mktemp("egg"))


@pytest.fixture(scope="module")
def scene(places: Places) -> Scene:
    return Scene.load(places, "egg", Config())


def shots(scene: Scene, acting: Acting, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses [n, 4, 4], expressions [n, E] and pictures behind [n, H, W, 3]."""
    found = list(islice(perform(scene, acting), count))
    poses = np.stack([shot.camera.world_to_camera.numpy() for shot in found])
    return poses, np.stack([shot.expression.numpy() for shot in found]), np.stack([shot.behind for shot in found])


def largest_steps(poses: np.ndarray) -> tuple[float, float]:
    """Largest turn (rad) and step (m) from one pose to the next."""
    turns = Rotation.from_matrix(poses[1:, :3, :3] @ poses[:-1, :3, :3].transpose(0, 2, 1)).magnitude()
    return float(turns.max()), float(np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).max())


def test_frames_go_back_and_forth_without_a_jump() -> None:
    assert list(islice(back_and_forth(5, 9), 14)) == [5, 6, 7, 8, 7, 6, 5, 6, 7, 8, 7, 6, 5, 6]
    assert list(islice(back_and_forth(3, 5), 5)) == [3, 4, 3, 4, 3]


def test_the_loop_moves_no_more_from_picture_to_picture_than_the_clip(scene: Scene) -> None:
    first, end = scene.longest_shot()
    assert (first, end) == (20, 44)  # there is a cut at 20
    looped, expressions, _ = shots(scene, Acting(), 5 * (end - first))
    for found, most in zip(largest_steps(looped), largest_steps(scene.poses[first:end]), strict=True):
        assert 0 <= found <= most + 1e-7
    np.testing.assert_array_equal(looped[:24], scene.poses[20:44])
    clip = scene.expression[first:end].numpy()
    assert np.abs(np.diff(expressions, axis=0)).max() <= np.abs(np.diff(clip, axis=0)).max()


def test_the_longest_shot_avoids_cuts_and_gaps() -> None:
    valid = np.ones(44, bool)
    assert longest_shot(valid, [20], "egg") == (20, 44)
    valid[30] = False
    assert longest_shot(valid, [20], "egg") == (0, 20)
    with pytest.raises(InputError, match="no two frames"):
        longest_shot(np.zeros(44, bool), [], "egg")


def test_a_still_head_keeps_pose_and_torso_while_its_brows_move(scene: Scene) -> None:
    poses, expressions, behind = shots(scene.still(31), Acting(), 60)
    assert largest_steps(poses)[1] == 0
    np.testing.assert_array_equal(poses[0], scene.poses[31])
    np.testing.assert_array_equal(behind, np.repeat(scene.layers.behind(31)[None], 60, 0))
    np.testing.assert_array_equal(expressions[:24], scene.expression[20:44])


def test_the_quiet_frame_has_open_eyes_and_a_usual_pose(scene: Scene) -> None:
    frame = scene.quiet_frame()
    first, end = scene.longest_shot()
    assert first <= frame < end
    assert scene.expression[frame, LIDS] <= scene.expression[first:end, LIDS].median()
    jaws = jaw_pixels(scene.poses[first:end], scene.intrinsics)
    distance = np.linalg.norm(jaws - jaw_pixels(mean_pose(scene.poses[first:end])[None], scene.intrinsics), axis=-1)
    assert distance.mean(1)[frame - first] <= np.median(distance.mean(1))


def test_a_frame_without_a_face_cannot_be_held(scene: Scene) -> None:
    valid = scene.valid.copy()
    valid[3] = False
    for frame in (-1, 44, 3):
        with pytest.raises(UsageError, match=f"frame {frame} cannot be held") as error:
            dataclasses.replace(scene, valid=valid).still(frame)
        assert "--frame takes frame" in error.value.fix


def test_a_head_follows_another_about_its_own_mean_pose(places: Places, scene: Scene) -> None:
    track = HeadTrack.load(places.record("track", SPEAKER))
    other = track.world_to_camera.copy()
    other[:, :3, 3] = other[:, :3, 3] * 1.5 + [0.1, 0.05, 0]
    other[:, :3, :3] = Rotation.from_rotvec([0, 0.4, 0]).as_matrix() @ other[:, :3, :3]
    poses, _, behind = shots(scene, Acting(poses=other), 100)
    own = scene.poses[20:44]
    np.testing.assert_allclose(mean_pose(poses[:44]), mean_pose(own), atol=5e-3)
    assert np.ptp(poses[:, 0, 3]) == pytest.approx(np.ptp(other[:, 0, 3]), rel=0.01)
    assert largest_steps(poses)[1] <= largest_steps(other)[1] + 1e-6
    np.testing.assert_allclose(behind, np.repeat(scene.layers.behind(20)[None], 100, 0), atol=1e-6)  # the egg's is one


def test_the_torso_comes_from_the_nearest_frame_and_is_faded_over(scene: Scene) -> None:
    class Numbered:
        def behind(self, frame: int) -> np.ndarray:
            return np.full((2, 2, 3), frame, np.float32)

    numbered = dataclasses.replace(scene, layers=Numbered())
    own = scene.poses[20:44]
    held = np.concatenate([np.repeat(own[3:4], 30, 0), np.repeat(own[12:13], 30, 0)])
    poses, _, behind = shots(numbered, Acting(poses=held), 60)
    frames = behind[:, 0, 0, 0]
    jaws = jaw_pixels(own, scene.intrinsics).reshape(24, -1)
    for index in (29, 59):  # long after each change
        mine = jaw_pixels(poses[index][None], scene.intrinsics).reshape(-1)
        assert frames[index] == pytest.approx(20 + int(np.argmin(((jaws - mine) ** 2).sum(1))), abs=0.01)
    assert np.abs(np.diff(frames)).max() <= 0.26 * np.ptp(frames)
    assert np.ptp(frames) > 1


def test_a_head_that_is_moved_far_away_is_warned_of(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    wild = scene.poses.copy()
    wild[::2, 0, 3] += 0.1
    next(perform(scene, Acting(poses=wild)))
    assert "its neck may not meet the torso" in caplog.text


@pytest.mark.parametrize("axis", range(3))
def test_a_head_that_is_turned_or_tilted_farther_than_ever_is_warned_of_once(
    scene: Scene, caplog: pytest.LogCaptureFixture, axis: int
) -> None:
    own = scene.poses[20:44]
    for degrees in (2, 14):
        turned = own.copy()
        vectors = np.radians(degrees) * np.array([[1], [-1]]) * np.eye(3)[axis]  # both ways: the mean pose stays
        turned[[5, 9], :3, :3] = Rotation.from_rotvec(vectors).as_matrix() @ mean_pose(own)[:3, :3]
        list(islice(perform(scene, Acting(poses=turned)), 60))
        assert len(caplog.records) == (degrees > 6)
    assert "in 2 of 24 poses" in caplog.text
    assert "and 13 degrees" in caplog.text or "and 14 degrees" in caplog.text


def test_another_clip_gives_poses_and_expressions(places: Places, scene: Scene) -> None:
    np.testing.assert_array_equal(poses_of(places, "egg"), scene.poses[20:44])
    torch.testing.assert_close(expressions_of(places, "egg", Config()), scene.expression[20:44])
    with pytest.raises(InputError, match="there is no motion of nobody to follow") as error:
        poses_of(places, "nobody")
    assert error.value.fix == "gausstalk run nobody"


def test_refined_poses_are_taken_where_there_are_any(tmp_path: Path) -> None:
    places = make_speaking_egg(tmp_path)
    track = HeadTrack.load(places.record("track", SPEAKER))
    moved = track.world_to_camera + np.float32(0.001)
    save(places, "pose_refine", Keys("egg"), RefinedPoses(moved, np.zeros((44, 4), np.float32)))
    np.testing.assert_array_equal(poses_of(places, "egg"), moved[20:44])


def test_expressions_of_another_clip_or_none(scene: Scene) -> None:
    other = torch.rand(7, scene.expression.shape[1])
    _, expressions, _ = shots(scene, Acting(expression=other), 13)
    np.testing.assert_array_equal(expressions, other.numpy()[[0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0]])
    _, resting, _ = shots(scene, Acting(neutral=True), 30)
    np.testing.assert_array_equal(resting, np.repeat(scene.expression[20:44].median(0).values[None], 30, 0))


def test_blinks_change_nothing_but_the_lids(scene: Scene) -> None:
    _, own, _ = shots(scene, Acting(), 400)
    others = np.arange(own.shape[1]) != LIDS
    _, never, _ = shots(scene, Acting(blinks="none"), 400)
    _, often, _ = shots(scene, Acting(blinks=30.0), 400)
    for changed in (never, often):
        np.testing.assert_array_equal(changed[:, others], own[:, others])
    assert np.ptp(never[:, LIDS]) == 0
    assert never[0, LIDS] == pytest.approx(np.sort(own[:46, LIDS])[22], abs=0.2)
    assert often[:, LIDS].max() == own[:, LIDS].max()
    assert often[:, LIDS].min() == never[0, LIDS]


def test_a_clip_without_blinks_is_said_to_have_none(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    awake = scene.expression.clone()
    awake[:, LIDS] = 0.2
    next(perform(dataclasses.replace(scene, expression=awake), Acting(blinks=20.0)))
    assert "nobody blinks" in caplog.text


@pytest.mark.parametrize("rate", [6.0, 15.0, 40.0])
def test_blinks_come_as_often_as_asked_and_look_like_a_persons(rate: float) -> None:
    minutes = 60
    closure = np.fromiter(blink_closures(rate, 25.0, 3), float, minutes * 1500)
    shut = closure > 0.5
    begins = np.flatnonzero(shut[1:] & ~shut[:-1]) / 25
    assert len(begins) == pytest.approx(rate * minutes, rel=0.12)
    gaps = np.diff(begins)
    assert gaps.min() >= 0.5  # no flutter
    assert gaps.std() > 0.3 * (gaps.mean() - 0.82)  # nor a metronome
    assert closure.max() == 1
    assert closure.min() == 0
    lengths = np.diff(np.flatnonzero(np.diff((closure > 0).astype(int))))[::2] / 25
    assert 0.2 <= lengths.min() <= lengths.max() <= 0.4
    again = np.fromiter(blink_closures(rate, 25.0, 3), float, 3000)
    np.testing.assert_array_equal(again, closure[:3000])
    assert not np.array_equal(np.fromiter(blink_closures(rate, 25.0, 4), float, 3000), again)
