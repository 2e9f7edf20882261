"""The clip-wide fit against puppets whose pose, identity and expression are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation
from tiny_head import make_tiny_head

from models.errors import InputError, UsageError
from models.heads import fit_phases
from models.heads.embedding import embed_mediapipe, load_canonical_face
from models.heads.fit import HeadFit, fit_head
from models.heads.fit_params import IDENTITY_SCHEDULE, FitParams
from models.heads.fit_phases import pivot_of
from models.heads.fit_state import Basis, Chain, Observations, Priors, State, project
from models.heads.flow import Flow, acceleration_error, find_cuts, measure_flow
from models.heads.gauss_newton import POSE, GaussNewton
from models.heads.ict import load_ict, load_ict_mesh
from models.heads.mediapipe_points import LID_PAIRS_LEFT, LID_PAIRS_RIGHT, RING_POINTS
from models.heads.skinning import Hinge

SIDE = 256
FOCAL = 2.3 * SIDE
MODEL = make_tiny_head()


@dataclass(frozen=True)
class Puppet:
    """A clip with its truth."""

    points: np.ndarray
    valid: np.ndarray
    world_to_camera: np.ndarray
    identity: np.ndarray
    expression: np.ndarray
    flow: Flow
    blendshapes: np.ndarray


def make_puppet(
    frames: int = 60, seed: int = 0, noise_px: float = 0.3, common_px: float = 0.0, blink: tuple[int, ...] = (20, 45)
) -> Puppet:
    rng = np.random.default_rng(seed)
    count = len(MODEL.expression_names)
    wander = gaussian_filter1d(rng.standard_normal((frames + 60, 6)), 8, axis=0)[30 : 30 + frames] * 4
    expression = np.clip(
        gaussian_filter1d(rng.standard_normal((frames + 60, count)), 4, axis=0)[30 : 30 + frames], 0, 1
    )
    closing = np.zeros(frames)
    for centre in blink:
        closing = np.maximum(closing, np.exp(-(((np.arange(frames) - centre) / 2.0) ** 4)))
    lids = [MODEL.expression_names.index(name) for name in ("blink_left", "blink_right")]
    expression[:, lids] = 0.8 * closing[:, None]  # 0.8 shuts them
    identity = rng.standard_normal(len(MODEL.identity))
    rotation = np.diag([1.0, -1, -1]) @ Rotation.from_euler("xyz", wander[:, :3] * [4, 8, 3], degrees=True).as_matrix()
    pivot = pivot_of(MODEL)
    translation = np.array([0.01, -0.02, 0.75]) + wander[:, 3:] * [0.008, 0.008, 0.01]
    image = _project(MODEL.landmarks(identity, expression) - pivot, rotation, translation)
    nose = _project(np.zeros((1, 3)), rotation, translation)[:, 0]
    acceleration = np.full((frames, 2), np.nan)
    acceleration[1:-1] = nose[2:] + nose[:-2] - 2 * nose[1:-1] + 0.05 * rng.standard_normal((max(frames - 2, 0), 2))
    flow = Flow(acceleration, np.full((frames, 0, 3, 2), np.nan))
    image = image + noise_px * rng.standard_normal(image.shape) + common_px * rng.standard_normal((frames, 1, 2))
    points = np.full((frames, 478, 2), np.nan, np.float32)
    points[:, MODEL.landmark_index] = image
    world_to_camera = np.tile(np.eye(4), (frames, 1, 1))
    world_to_camera[:, :3, :3] = rotation
    world_to_camera[:, :3, 3] = translation - rotation @ pivot
    blendshapes = np.zeros((frames, 52), np.float32)
    blendshapes[:, 9:11] = closing[:, None]
    return Puppet(points, np.ones(frames, bool), world_to_camera, identity, expression, flow, blendshapes)


def _project(points: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    camera = points @ rotation.transpose(0, 2, 1) + translation[:, None]
    return FOCAL * camera[..., :2] / camera[..., 2:] + SIDE / 2


def fit(puppet: Puppet, **changes: object) -> HeadFit:
    arguments = {
        "points": puppet.points,
        "valid": puppet.valid,
        "width": SIDE,
        "height": SIDE,
        "flow": puppet.flow,
        "blendshapes": puppet.blendshapes,
    }
    return fit_head(MODEL, **(arguments | changes))


def rotation_error_deg(fitted: HeadFit, puppet: Puppet) -> np.ndarray:
    relative = fitted.world_to_camera[:, :3, :3] @ puppet.world_to_camera[:, :3, :3].transpose(0, 2, 1)
    return np.degrees(np.linalg.norm(Rotation.from_matrix(relative).as_rotvec(), axis=1))


def nose_track(world_to_camera: np.ndarray) -> np.ndarray:
    return _project(pivot_of(MODEL)[None], world_to_camera[:, :3, :3], world_to_camera[:, :3, 3])[:, 0]


def lid_gap_mm(fitted: HeadFit) -> np.ndarray:
    landmarks = MODEL.landmarks(fitted.identity, fitted.expression) + fitted.landmark_offsets
    pairs = np.concatenate([MODEL.pair_rows(LID_PAIRS_RIGHT), MODEL.pair_rows(LID_PAIRS_LEFT)])
    return 1e3 * np.abs(landmarks[:, pairs[:, 0], 1] - landmarks[:, pairs[:, 1], 1]).mean(1)


def test_the_truth_of_a_puppet_is_found() -> None:
    puppet = make_puppet()
    fitted = fit(puppet)
    assert rotation_error_deg(fitted, puppet).max() < 1.5
    assert np.abs(nose_track(fitted.world_to_camera) - nose_track(puppet.world_to_camera)).max() < 0.4
    assert 0.2 < fitted.stats["reprojection_mean_px"] < 0.5  # the noise is 0.38 on average
    jaw = MODEL.expression_names.index("jaw_open")
    assert np.corrcoef(fitted.expression[:, jaw], puppet.expression[:, jaw])[0, 1] > 0.98
    depth = fitted.world_to_camera[:, 2, 3] / puppet.world_to_camera[:, 2, 3]
    assert np.abs(np.log(depth)).max() < 0.15  # face size and distance can hardly be told apart
    assert np.allclose(fitted.world_to_camera[:, 3], [0, 0, 0, 1])
    assert np.allclose(np.linalg.det(fitted.world_to_camera[:, :3, :3]), 1)


def test_flow_takes_the_trembling_out_and_leaves_the_motion_in() -> None:
    puppet = make_puppet(common_px=0.7)
    truth = nose_track(puppet.world_to_camera)

    def trembling(fitted: HeadFit) -> float:
        return float(np.sqrt((np.diff(nose_track(fitted.world_to_camera) - truth, 2, axis=0) ** 2).sum(1).mean()))

    with_flow, without = trembling(fit(puppet)), trembling(fit(puppet, flow=None))
    assert with_flow < 0.25
    assert with_flow < 0.5 * without


def test_frames_without_a_face_get_the_pose_between_their_neighbours() -> None:
    puppet = make_puppet()
    whole = fit(puppet)
    valid, points, flow = puppet.valid.copy(), puppet.points.copy(), puppet.flow.nose.copy()
    valid[30:36] = False
    points[30:36], flow[29:37] = np.nan, np.nan
    points[50] = np.nan  # valid is said, but nothing was measured
    fitted = fit(puppet, points=points, valid=valid, flow=replace(puppet.flow, nose=flow))
    assert fitted.world_to_camera.shape == (60, 4, 4)
    assert np.isfinite(fitted.world_to_camera).all()
    assert np.isfinite(fitted.expression).all()
    missing = np.zeros(60, bool)
    missing[30:36] = missing[50] = True
    assert (np.isnan(fitted.residual_px) == missing).all()
    assert fitted.stats["frames_without_face"] == 7
    assert rotation_error_deg(fitted, puppet)[missing].max() < 3.0
    drift = np.abs(nose_track(fitted.world_to_camera) - nose_track(whole.world_to_camera))
    assert drift[missing].max() < 4.0
    assert drift[:25].max() < 0.5


def test_a_head_that_leaves_does_not_coast_on_for_ever() -> None:
    puppet = make_puppet(blink=())
    points = puppet.points + np.arange(60)[:, None, None] * np.float32([1.5, 0])
    valid = puppet.valid.copy()
    valid[35:] = False
    fitted = fit(puppet, points=points, valid=valid, flow=None)
    track = nose_track(fitted.world_to_camera)
    assert np.linalg.norm(track[-1] - track[34]) < 12  # at its speed it would be 37 pixels further
    assert np.abs(np.diff(track[30:], axis=0)).max() < 4
    assert 0.6 < fitted.world_to_camera[-1, 2, 3] < 1.0


def test_corrections_leave_lids_lips_and_the_size_of_the_face_alone() -> None:
    puppet = make_puppet()
    bias = np.random.default_rng(8).normal(0, 1.0, (478, 2)).astype(np.float32)
    fitted = fit(puppet, points=puppet.points + bias)
    moved = np.linalg.norm(fitted.landmark_offsets, axis=1)
    on_rings = np.isin(MODEL.landmark_index, RING_POINTS)
    assert (moved[on_rings] == 0).all()
    assert np.median(moved[~on_rings]) > 0.0003
    rest = (MODEL.landmarks() - pivot_of(MODEL))[~on_rings]
    offsets = fitted.landmark_offsets[~on_rings]
    assert np.abs(offsets.mean(0)).max() < 1e-6
    assert abs((offsets * rest).sum() / (rest**2).sum()) < 1e-6
    plain = fit(puppet, points=puppet.points + bias, params=FitParams(identity_schedule=IDENTITY_SCHEDULE[:-1]))
    assert fitted.stats["reprojection_mean_px"] < 0.8 * plain.stats["reprojection_mean_px"]


def test_nothing_crosses_a_cut() -> None:
    puppet = make_puppet(blink=())
    order = np.r_[0:30, 59:29:-1]  # the second shot is played backwards, somewhere else in the image
    points = puppet.points[order] + np.where(np.arange(60) >= 30, 1, 0)[:, None, None] * np.float32([25, -15])
    flow = puppet.flow.nose[order]
    flow[[29, 30]] = np.nan
    flow = replace(puppet.flow, nose=flow)
    arguments = {"points": points.astype(np.float32), "flow": flow, "blendshapes": None}
    tied, cut = fit(puppet, **arguments), fit(puppet, **arguments, cuts=(30,))
    seam = slice(26, 34)
    assert np.nanmax(cut.residual_px[seam]) < 0.8
    assert np.nanmax(tied.residual_px[seam]) > 2 * np.nanmax(cut.residual_px[seam])


def test_a_shot_without_any_face_takes_the_nearest_pose() -> None:
    puppet = make_puppet()
    valid = puppet.valid.copy()
    valid[40:] = False
    fitted = fit(puppet, valid=valid, cuts=(40,), flow=None)
    assert np.allclose(fitted.world_to_camera[40:], fitted.world_to_camera[40], atol=1e-6)
    assert np.abs(fitted.world_to_camera[40] - fitted.world_to_camera[39]).max() < 0.02


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_clips_can_be_fitted(frames: int) -> None:
    puppet = make_puppet(frames, blink=())
    fitted = fit(puppet)
    assert fitted.world_to_camera.shape == (frames, 4, 4)
    assert fitted.residual_px.max() < 1.0
    assert rotation_error_deg(fitted, puppet).max() < 6.0


def test_single_missing_landmarks_do_no_harm() -> None:
    puppet = make_puppet()
    points = puppet.points.copy()
    rng = np.random.default_rng(5)
    points[rng.random(points.shape[:2]) < 0.3] = np.nan
    fitted = fit(puppet, points=points)
    assert rotation_error_deg(fitted, puppet).max() < 2.5
    assert fitted.stats["reprojection_mean_px"] < 0.5


def test_wild_landmarks_are_outvoted() -> None:
    puppet = make_puppet()
    points = puppet.points.copy()
    rng = np.random.default_rng(6)
    wild = rng.choice(MODEL.landmark_index, 5, replace=False)
    points[:, wild] += rng.uniform(-40, 40, (60, 5, 2)).astype(np.float32)
    assert rotation_error_deg(fit(puppet, points=points), puppet).mean() < 2.0


@pytest.mark.parametrize("scored", [True, False])
def test_blinks_close_the_eyes(scored: bool) -> None:
    puppet = make_puppet()
    points = puppet.points.copy()
    closed = puppet.blendshapes[:, 9] > 0.9
    # A landmarker never reports closed lids as closed: push them apart again.
    for upper, lower in (*LID_PAIRS_RIGHT, *LID_PAIRS_LEFT):
        middle = (points[:, upper] + points[:, lower]) / 2
        points[closed, upper] = middle[closed] - [0, 0.6]
        points[closed, lower] = middle[closed] + [0, 0.6]
    arguments = {"points": points, "blendshapes": puppet.blendshapes if scored else None}
    snapped = fit(puppet, **arguments)
    plain = fit(puppet, **arguments, params=FitParams(snap_lids=False))
    assert lid_gap_mm(snapped)[closed].mean() < 0.35
    assert lid_gap_mm(plain)[closed].mean() > 2 * lid_gap_mm(snapped)[closed].mean()
    wide = puppet.blendshapes[:, 9] < 0.05
    assert np.allclose(snapped.expression[wide], plain.expression[wide], atol=1e-6)


def test_a_long_clip_is_fitted_in_windows_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    puppet = make_puppet(200)
    whole = fit(puppet)
    monkeypatch.setattr(fit_phases, "_WINDOW", 70)
    parts = [range(window.start, window.stop)[core] for window, core in fit_phases.windows(200)]
    assert [frame for part in parts for frame in part] == list(range(200))
    assert len(parts) == 3
    windowed = fit(puppet)
    apart = np.abs(nose_track(windowed.world_to_camera) - nose_track(whole.world_to_camera))
    assert 0 < apart.max() < 0.02
    assert np.abs(windowed.expression - whole.expression).max() < 0.02


def test_the_same_input_gives_the_same_fit() -> None:
    puppet = make_puppet(20)
    one, two = fit(puppet), fit(puppet)
    assert np.array_equal(one.world_to_camera, two.world_to_camera)
    assert np.array_equal(one.expression, two.expression)


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    fit(make_puppet(10, blink=()), progress=lambda share, _: seen.append(share))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_wrong_input_is_refused_by_name() -> None:
    puppet = make_puppet(5, blink=())
    with pytest.raises(UsageError, match="points"):
        fit(puppet, points=puppet.points[:, :468])
    with pytest.raises(UsageError, match="flow"):
        fit(puppet, flow=replace(puppet.flow, nose=puppet.flow.nose[:3]))
    with pytest.raises(UsageError, match="judge.corners"):
        fit(puppet, judge=replace(puppet.flow, corners=np.zeros((5, 4, 2))))
    with pytest.raises(UsageError, match="cuts"):
        fit(puppet, cuts=(5,))
    with pytest.raises(UsageError, match="find the identity"):
        FitParams(clip_schedule=IDENTITY_SCHEDULE[:2])
    with pytest.raises(InputError, match="no frame shows a face"):
        fit(puppet, valid=np.zeros(5, bool))
    eyeless = replace(
        MODEL,
        landmark_index=np.where(MODEL.landmark_index == 33, 34, MODEL.landmark_index),
    )
    with pytest.raises(UsageError, match="33"):
        fit_head(eyeless, puppet.points, puppet.valid, SIDE, SIDE)


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _small_problem(frames: int, jaw: bool) -> tuple[Basis, State, Observations, Chain]:
    rng = np.random.default_rng(7)
    landmarks, expressions, identities = 9, 3, 2
    hinge, unknowns = None, POSE + expressions + (3 if jaw else 0)
    if jaw:
        shapes = {"carried": (), "identity": (identities,), "expression": (expressions,)}
        shapes |= {"correctives": (9,), "carried_correctives": (9,)}
        hinge = Hinge(**{name: rng.normal(0, 0.01, (*shape, landmarks, 3)) for name, shape in shapes.items()})
    basis = Basis(
        rest=rng.normal(0, 0.05, (landmarks, 3)),
        identity=rng.normal(0, 0.004, (identities, landmarks, 3)),
        expression=rng.normal(0, 0.006, (expressions, landmarks, 3)),
        pairs=np.array([[0, 1], [2, 5]]),
        hinge=hinge,
    )
    state = State(
        rotation=Rotation.from_rotvec(rng.normal(0, 0.2, (frames, 3))).as_matrix(),
        ray=rng.normal(0, 0.05, (frames, 2)),
        log_depth=rng.normal(-0.3, 0.05, frames),
        expression=rng.uniform(0.1, 0.9, (frames, basis.coefficients)),
        identity=rng.normal(0, 1, identities),
    )
    seen = Observations(
        points=project(state, basis)[1] + rng.normal(0, 0.01, (frames, landmarks, 2)),
        weight=rng.integers(0, 3, (frames, landmarks)).astype(float),
        sigma=0.004,
        sliding=np.array([1, 4]),
        along=0.8 * _units(rng.normal(0, 1, (frames, 2, 2))),
    )
    weight = rng.uniform(10, 1000, (frames, unknowns)) * (np.arange(frames) % (frames - 1) > 0)[:, None]
    hold = rng.uniform(1, 50, (frames, unknowns)) * (np.arange(frames) < frames - 1)[:, None]
    return basis, state, seen, Chain(weight, rng.normal(0, 0.01, (frames, 5)) * (weight[:, :1] > 0), hold)


@pytest.mark.parametrize("jaw", [False, True])
def test_a_step_solves_the_linearised_problem_written_out_in_full(jaw: bool) -> None:
    """One step with identity and temporal ties against a dense least squares on a numerical Jacobian."""
    frames = 4
    basis, state, seen, chain = _small_problem(frames, jaw)
    priors = Priors(robust=np.inf, gap=3.0, identity=2.0, expression=0.1, box=100.0)
    size = POSE + basis.coefficients
    turn_before = Rotation.from_matrix(state.rotation)

    def moved(unknowns: np.ndarray) -> State:
        u = unknowns[: frames * size].reshape(frames, size)
        return State(
            rotation=(Rotation.from_rotvec(u[:, :3]) * turn_before).as_matrix(),
            ray=state.ray + u[:, 3:5],
            log_depth=state.log_depth + u[:, 5],
            expression=state.expression + u[:, 6:],
            identity=state.identity + unknowns[frames * size :],
        )

    def residuals(unknowns: np.ndarray) -> np.ndarray:
        new = moved(unknowns)
        u = unknowns[: frames * size].reshape(frames, size)
        r = (project(new, basis)[1] - seen.points) / seen.sigma
        for j, row in enumerate(seen.sliding):
            r[:, row] -= seen.along[:, j] * (seen.along[:, j] * r[:, row]).sum(1, keepdims=True)
        first, second = basis.pairs.T
        both = seen.weight[:, first] * seen.weight[:, second]
        gaps = np.sqrt(priors.gap * both)[..., None] * (r[:, first] - r[:, second])
        # Between frames, rotations count as in the linear model: constant velocities plus the update vectors.
        turn = Rotation.from_matrix(state.rotation[1:] @ state.rotation[:-1].transpose(0, 2, 1)).as_rotvec()
        rest = np.concatenate([new.ray, new.log_depth[:, None], new.expression], 1)
        velocity = np.concatenate([turn + np.diff(u[:, :3], axis=0), np.diff(rest, axis=0)], 1)
        acceleration = np.diff(velocity, axis=0)
        acceleration[:, :5] -= chain.target[1:-1]
        terms = [
            np.sqrt(seen.weight)[..., None] * r,
            gaps,
            np.sqrt(priors.expression) * new.expression / basis.deviation,
            np.sqrt(priors.identity) * new.identity,
            np.sqrt(chain.acceleration[1:-1]) * acceleration,
            np.sqrt(chain.hold[:-1]) * velocity,
        ]
        return np.concatenate([term.ravel() for term in terms])

    count = frames * size + 2
    start, step = np.zeros(count), 1e-6
    jacobian = np.stack([(residuals(d) - residuals(-d)) / (2 * step) for d in np.eye(count) * step], 1)
    r = residuals(start)
    best = -np.linalg.solve(jacobian.T @ jacobian + 1e-6 * np.eye(count), jacobian.T @ r)

    solver = GaussNewton(basis, with_expression=True, with_identity=True)
    new, energy = solver.step(state, seen, priors, chain, damping=0.0)
    assert energy == pytest.approx(float(r @ r), rel=1e-4)
    update = best[: frames * size].reshape(frames, size)
    turned = (Rotation.from_matrix(new.rotation) * turn_before.inv()).as_rotvec()
    assert np.allclose(turned, update[:, :3], rtol=2e-3, atol=2e-4)
    assert np.allclose(new.ray - state.ray, update[:, 3:5], rtol=2e-3, atol=2e-5)
    assert np.allclose(new.log_depth - state.log_depth, update[:, 5], rtol=2e-3, atol=2e-5)
    assert np.allclose(new.expression, np.clip(state.expression + update[:, 6:], -0.1, 1.2), atol=2e-3)
    assert np.allclose(new.identity - state.identity, best[frames * size :], rtol=5e-3, atol=2e-3)


def test_a_real_clip_is_followed(assets: Path) -> None:
    """Three seconds of a person reading a sentence: landmarks, flow and fit, judged by corners the fit has not seen."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(assets / "weights" / "face_landmarker.task")),
        output_face_blendshapes=True,
        running_mode=vision.RunningMode.VIDEO,
    )
    video = cv2.VideoCapture(str(assets / "video" / "grid_s1" / "bbaf2n.mpg"))
    frames, points, blendshapes = [], [], []
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        while (read := video.read())[0]:
            frames.append(np.ascontiguousarray(read[1][..., ::-1]))
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frames[-1])
            found = landmarker.detect_for_video(image, 40 * len(frames))
            points.append([[p.x * image.width, p.y * image.height] for p in found.face_landmarks[0]])
            blendshapes.append([shape.score for shape in found.face_blendshapes[0]])
    measured, valid = np.array(points, np.float32), np.ones(len(points), bool)
    archive = assets / "model3d" / "ict_facekit_light.npz"
    canonical = load_canonical_face(assets / "model3d" / "canonical_face_model.obj")
    model = load_ict(archive, embed_mediapipe(load_ict_mesh(archive), *canonical))

    assert find_cuts(measured, valid, frames).tolist() == []
    flow, judge = measure_flow(frames, measured, valid)
    height, width = frames[0].shape[:2]
    fitted = fit_head(model, measured, valid, width, height, (), flow, np.array(blendshapes), judge=judge)
    assert fitted.stats["reprojection_mean_px"] < 0.25
    assert fitted.stats["rms_over_eye_distance"] < 0.007
    assert fitted.stats["expression_outside"] < 0.01
    assert fitted.stats["lid_closed_gap_px"] < 0.5
    assert fitted.stats["lip_gap_error_px"] < 0.2
    assert np.abs(fitted.identity).mean() < 1.5  # a plausible face, not one bent to the noise
    error = fitted.stats["held_out_flow_error_px"]
    assert error < 0.13
    assert error < 0.6 * acceleration_error(measured[:, 6], judge.nose)  # a landmark on the bridge of the nose
    assert fitted.stats["held_out_rotation_error_deg"] < 1.2 * fitted.stats["held_out_rotation_floor_deg"]
