"""Puppets: clips of a head model whose pose, identity and expression are known, and how well a fit finds them.

`python -m tests.models.puppets` fits five identities of 100 frames each and prints every figure; the head model is
ICT-FaceKit where $GAUSSTALK_ASSETS has it, else the demo speaker's.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from models.heads.embedding import similarity
from models.heads.fit import HeadFit, fit_head
from models.heads.fit_params import FitParams, Smoothness
from models.heads.fit_phases import pivot_of
from models.heads.flow import Flow
from models.heads.mediapipe_points import JAW, LANDMARK_COUNT, RIGID_PARTS
from models.heads.model import HeadModel

Array = np.ndarray

SIDE, FOCAL = 512, 1200.0
EYE_DISTANCE_PX = 150.0
# The focal length is known, so nothing but noise keeps the model from fitting exactly.
PARAMS = FitParams(focal_factor=FOCAL / SIDE, correction_sd_m=(0.0, 0.001))
_LOOSE = Smoothness(rotation_deg=1e3, sideways_m=1e3, depth_m=1e3)
# Every frame on its own; only who it is, is shared.
FRAME_BY_FRAME = replace(PARAMS, with_flow=_LOOSE, without_flow=_LOOSE, expression_sd=1e3)
# Nearly rigid points between the eyes and below them, head frame, metres: what trembles when a head does.
_RIGID = np.array([[0, -0.012, 0.005], [-0.03, -0.002, -0.015], [0.03, -0.002, -0.015], [0, -0.002, -0.015]])
_RARE = ("cheekpuff", "jawleft", "jawright", "jawforward", "mouthleft", "mouthright")


@dataclass(frozen=True)
class Puppet:
    """A clip with its truth.

    `flow` is the true acceleration of the nose and the true ways of the landmarks on the rigid parts, which expressions
    move all the same, with a tenth of a pixel of noise.
    """

    model: HeadModel
    points: Array
    blendshapes: Array
    flow: Flow
    world_to_camera: Array
    identity: Array
    expression: Array


def make_puppet(
    model: HeadModel, seed: int, frames: int = 100, noise_px: float = 1.0, common: float = 0.0, every: int = 1
) -> Puppet:
    """Make a clip of an identity drawn from the model's prior that turns, speaks and blinks.

    Args:
        model: Any head model.
        seed: Of everything.
        frames: Length.
        noise_px: Standard deviation of each landmark's noise, independent in both coordinates.
        common: Strength of noise that all landmarks of a frame share: at 1 a shift of 0.7 px an axis, a roll of
            0.3 degrees, a scale of 0.4 percent.
        every: Above 1, each `every`-th frame of a longer clip is left out, as rate conversion does (judder).
    """
    rng = np.random.default_rng(seed)
    names = [name.lower().replace("_", "") for name in model.expression_names]
    long = frames if every == 1 else -(-frames * every // (every - 1)) + 1
    expression = np.clip(_smooth(rng, long, len(names), 4) * 0.25 + 0.02, 0, 1) * (rng.random(len(names)) < 0.6)
    jaw = np.clip(_smooth(rng, long, 1, 3)[:, 0] * 0.2 + 0.15, 0, 0.8)
    closing = np.zeros(long)
    for centre in np.array([0.2, 0.62, 0.85]) * long:
        closing = np.maximum(closing, np.exp(-(((np.arange(long) - centre) / 1.6) ** 2) / 2))
    for k, name in enumerate(names):
        if name in ("jawopen", "jaw"):
            expression[:, k] = jaw
        elif name == "mouthclose":
            expression[:, k] = 0.1 * jaw
        elif "blink" in name:
            expression[:, k] = closing
        elif name.startswith("eyelook"):
            expression[:, k] = 0
        elif name.startswith(_RARE):
            expression[:, k] *= 0.3
    identity = rng.standard_normal(len(model.identity))
    turn = Rotation.from_euler("xyz", _smooth(rng, long, 3, 10) * [5, 10, 4], degrees=True).as_matrix()
    landmarks = model.landmarks()
    right, left = model.rows_of((33, 263))
    distance = FOCAL * np.linalg.norm(landmarks[right] - landmarks[left]) / EYE_DISTANCE_PX
    away = _smooth(rng, long, 3, 12) * [0.012, 0.012, 0.015] + np.array([0, 0, distance])
    kept = np.arange(long) if every == 1 else np.flatnonzero(np.arange(long) % every != every - 1)
    kept = kept[:frames]
    expression, rotation, translation = expression[kept], (np.diag([1.0, -1, -1]) @ turn)[kept], away[kept]

    pivot = pivot_of(model)
    image = _project(model.landmarks(identity, expression) - pivot, rotation, translation)
    nose = _project(np.zeros((1, 3)), rotation, translation)[:, 0]
    acceleration = np.full((frames, 2), np.nan)
    acceleration[1:-1] = np.diff(nose, 2, axis=0) + 0.1 * rng.standard_normal((frames - 2, 2))
    flow = Flow(acceleration, follow(image[:, model.rows_of(sum(RIGID_PARTS, ()))], 0.1, seed))
    image += noise_px * rng.standard_normal(image.shape)
    shift, roll, scale = (common * rng.standard_normal((frames, 1, n)) for n in (2, 1, 1))
    about = image - image.mean(1, keepdims=True)
    image += 0.7 * shift + 0.004 * scale * about
    image += np.radians(0.3) * roll * np.stack([-about[..., 1], about[..., 0]], -1)

    points = np.full((frames, LANDMARK_COUNT, 2), np.nan, np.float32)
    points[:, model.landmark_index] = image
    blendshapes = np.zeros((frames, 52), np.float32)
    blendshapes[:, 9:11] = closing[kept, None]
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = rotation
    poses[:, :3, 3] = translation - rotation @ pivot
    return Puppet(model, points, blendshapes, flow, poses, identity, expression)


def follow(ways: Array, noise_px: float, seed: int) -> Array:
    """Return corners `[T, N, 3, 2]` as optical flow gives them for points that go such ways `[T, N, 2]`."""
    corners = np.full((*ways.shape[:2], 3, 2), np.nan)
    corners[1:-1] = np.stack([ways[:-2], ways[1:-1], ways[2:]], 2)
    corners[:, :, [0, 2]] += noise_px * np.random.default_rng(seed).standard_normal((*ways.shape[:2], 2, 2))
    return corners


def slide_jaw(puppet: Puppet, pixels: float) -> Puppet:
    """Let the points on the jaw line slide along it: by a fixed random amount each, which changes as the head turns."""
    rng = np.random.default_rng(77)
    points = puppet.points.copy()
    line = points[:, list(JAW)]
    along = np.gradient(gaussian_filter1d(line, 1, axis=0), axis=1)
    along /= np.linalg.norm(along, axis=2, keepdims=True)
    forward = puppet.world_to_camera[:, :3, 2]
    yaw = np.arctan2(forward[:, 0], -forward[:, 2])
    amount = rng.standard_normal(len(JAW)) + rng.standard_normal(len(JAW)) * (yaw / max(yaw.std(), 1e-9))[:, None]
    points[:, list(JAW)] = line + pixels / np.sqrt(2) * amount[..., None] * along
    return replace(puppet, points=points)


def _smooth(rng: np.random.Generator, frames: int, count: int, sigma: float) -> Array:
    """Return `[frames, count]` random motions of unit variance that change over about `sigma` frames."""
    margin = round(4 * sigma)
    white = rng.standard_normal((frames + 2 * margin, count))
    return gaussian_filter1d(white, sigma, axis=0)[margin : margin + frames] * np.sqrt(2 * np.sqrt(np.pi) * sigma)


def _project(points: Array, rotation: Array, translation: Array) -> Array:
    camera = points @ rotation.transpose(0, 2, 1) + translation[:, None]
    return FOCAL * camera[..., :2] / camera[..., 2:] + SIDE / 2


def fit(puppet: Puppet, params: FitParams = PARAMS, flow: bool = False, turning: bool = True) -> HeadFit:
    """Fit a puppet with its own head model; `flow` that of the nose alone unless `turning`."""
    frames = len(puppet.points)
    measured = puppet.flow if turning else replace(puppet.flow, corners=puppet.flow.corners[:, :0])
    measured = measured if flow else None
    arguments = (puppet.model, puppet.points, np.ones(frames, bool), SIDE, SIDE, (), measured, puppet.blendshapes)
    return fit_head(*arguments, params)


def errors(puppet: Puppet, fitted: HeadFit) -> dict[str, float]:
    """Compare a fit with the truth.

    Returns:
        `rotation_deg` mean angle; `vertex_mm` mean distance of the face's vertices after a similarity for each frame,
        and `rigid_mm` after a rigid motion; `jaw_mm` as `vertex_mm` of the vertices within a centimetre of the jaw
        line; second differences of the error, rms, that is what trembles:
        `rotation_jitter_deg`, `pixel_jitter_px` of rigid points in the picture and `depth_jitter_mm`;
        `depth_percent` and `expression_rms`.
    """
    model, true, found = puppet.model, puppet.world_to_camera, fitted.world_to_camera
    turn = Rotation.from_matrix(found[:, :3, :3] @ true[:, :3, :3].transpose(0, 2, 1)).as_rotvec()
    rigid = [_project(_RIGID, pose[:, :3, :3], pose[:, :3, 3]) for pose in (found, true)]
    depth = [(pose[:, :3, :3] @ pivot_of(model) + pose[:, :3, 3])[:, 2] for pose in (found, true)]
    first, end = model.regions.get("narrow_face", (0, len(model.neutral)))
    distance = np.linalg.norm(model.neutral[first:end, None] - model.landmarks()[model.rows_of(JAW)], axis=2)
    at_jaw = distance.min(1) < 0.01
    vertices: dict[str, list[float]] = {"vertex_mm": [], "rigid_mm": [], "jaw_mm": []}
    for t in range(0, len(true), 10):
        is_ = model.vertices(fitted.identity, fitted.expression[t])[first:end]
        should = model.vertices(puppet.identity, puppet.expression[t])[first:end]
        scale, rotation, shift = similarity(is_, should)
        away = np.linalg.norm(scale * is_ @ rotation.T + shift - should, axis=1)
        vertices["vertex_mm"].append(away.mean())
        vertices["jaw_mm"].append(away[at_jaw].mean())
        shift = should.mean(0) - is_.mean(0) @ rotation.T
        vertices["rigid_mm"].append(np.linalg.norm(is_ @ rotation.T + shift - should, axis=1).mean())
    return {
        "rotation_deg": float(np.degrees(np.linalg.norm(turn, axis=1)).mean()),
        **{name: float(1e3 * np.mean(values)) for name, values in vertices.items()},
        "rotation_jitter_deg": float(np.degrees(_rms(np.diff(turn, 2, axis=0)))),
        "pixel_jitter_px": float(_rms(np.diff(rigid[0] - rigid[1], 2, axis=0))),
        "depth_jitter_mm": float(1e3 * _rms(np.diff(depth[0] - depth[1], 2, axis=0)[:, None])),
        "depth_percent": float(100 * np.abs(depth[0] / depth[1] - 1).mean()),
        "expression_rms": float(np.sqrt(((fitted.expression - puppet.expression) ** 2).mean())),
    }


def _rms(vectors: Array) -> float:
    return float(np.sqrt((vectors**2).sum(-1).mean()))


def mean_errors(puppets: list[Puppet], params: FitParams, flow: bool, turning: bool) -> dict[str, float]:
    """Fit puppets and return the mean of each error."""
    each = [errors(puppet, fit(puppet, params, flow, turning)) for puppet in puppets]
    return {name: float(np.mean([error[name] for error in each])) for name in each[0]}


def head_model() -> HeadModel:
    """Return ICT-FaceKit where its files are, else the demo speaker's head."""
    folder = Path(os.environ.get("GAUSSTALK_ASSETS", "")) / "model3d"
    archive, canonical = folder / "ict_facekit_light.npz", folder / "canonical_face_model.obj"
    if archive.is_file() and canonical.is_file():
        from models.heads.embedding import embed_mediapipe, load_canonical_face
        from models.heads.ict import load_ict, load_ict_mesh

        return load_ict(archive, embed_mediapipe(load_ict_mesh(archive), *load_canonical_face(canonical)))
    from models.demo.head_model import build

    return build()


def main() -> None:
    """Print the errors of five identities under each kind of noise, with and without ties between frames."""
    model = head_model()
    held = replace(PARAMS, jaw_slides=0.0)
    # name, common noise, pixels that the jaw line slides, a frame in so many lost, settings, flow: of nose, of the rest
    cases = [
        ("1 px noise", 0.0, 0.0, 1, PARAMS, False, False),
        ("1 px noise, frame by frame", 0.0, 0.0, 1, FRAME_BY_FRAME, False, False),
        ("1 px noise, flow of the nose", 0.0, 0.0, 1, PARAMS, True, False),
        ("1 px noise, flow", 0.0, 0.0, 1, PARAMS, True, True),
        ("and common noise, flow", 1.0, 0.0, 1, PARAMS, True, True),
        ("and common noise, flow of the nose", 1.0, 0.0, 1, PARAMS, True, False),
        ("and common noise", 1.0, 0.0, 1, PARAMS, False, False),
        ("and common noise, frame by frame", 1.0, 0.0, 1, FRAME_BY_FRAME, False, False),
        ("and judder, flow", 1.0, 0.0, 6, PARAMS, True, True),
        ("and judder, flow of the nose", 1.0, 0.0, 6, PARAMS, True, False),
        ("jaw line slides 6 px", 0.0, 6.0, 1, PARAMS, False, False),
        ("the same, held to its points", 0.0, 6.0, 1, held, False, False),
    ]
    for number, (name, common, slide, every, params, flow, turning) in enumerate(cases):
        puppets = [slide_jaw(make_puppet(model, seed, common=common, every=every), slide) for seed in range(5)]
        found = mean_errors(puppets, params, flow, turning)
        if number == 0:
            sys.stdout.write(f"{model.name}, five identities of 100 frames\n{'':36}")
            sys.stdout.write("".join(f"{key:>21}" for key in found) + "\n")
        sys.stdout.write(f"{name:36}" + "".join(f"{value:21.3f}" for value in found.values()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
