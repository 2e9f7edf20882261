"""The speaker in front of the camera: frames, label maps and the truth behind them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.demo import paint, raster
from models.demo.animation import PIVOT, Animation, rotation_matrix, still
from models.demo.body import KEY_LIGHT, Body, build
from models.demo.expression import (
    LOWER_LID_SHARE,
    NAMES,
    UPPER_LID_SHARE,
    Expression,
    rotate_jaw,
)
from models.demo.fields import Array, smoothstep
from models.demo.film import Plate, Samples
from models.demo.hair import WHORL
from models.demo.identity import SPEAKERS
from models.demo.landmarks import LandmarkRig
from models.demo.shape import EYE_DEPTH, FISSURE_HALF_WIDTH, lower_lid, upper_lid
from models.errors import UsageError
from models.heads.triangles import rasterize

CAMERA_DISTANCE = 960.0  # mm from the head's origin
CAMERA_HEIGHT = -30.0
VIEW = 332.0  # mm of the plane of the face that the image spans
FACE_PLANE = 60.0  # z of that plane

_FILL = np.array([0.80, 0.10, 0.60]) / np.linalg.norm([0.80, 0.10, 0.60])
_RIM = np.array([0.75, 0.45, -0.55]) / np.linalg.norm([0.75, 0.45, -0.55])
_LIGHTS = np.stack([KEY_LIGHT, _FILL, _RIM])
# Per colour channel: key, fill, sky and rim strength; wrap of the key around skin; exponents of shadow and openness.
LIGHTS = np.array(
    [
        [1.78, 0.270, 0.23, 0.22, 0.32, 0.70, 0.75],
        [1.66, 0.295, 0.23, 0.23, 0.16, 1.00, 1.00],
        [1.50, 0.350, 0.25, 0.26, 0.11, 1.10, 1.08],
    ]
)


@dataclass(frozen=True)
class Frames:
    """Rendered frames and their truth.

    rgb [N, S, S, 3] uint8; labels [N, S, S] uint8 in the ids of CONVENTIONS.md; landmarks_3d [N, 478, 3] metres in the
    head frame; landmarks_2d [N, 478, 2] pixels. Landmarks that the speaker does not give are NaN.
    """

    rgb: Array
    labels: Array
    landmarks_3d: Array
    landmarks_2d: Array


class Actor:
    """A synthetic speaker. Holds arrays only, so it can be pickled or inherited by a forked process."""

    def __init__(self, identity: str = "male", size: int = 256) -> None:
        """Build the speaker.

        Args:
            identity: a key of `identity.SPEAKERS`, "male" or "female".
            size: width and height of the frames in pixels, 16 or more.

        Raises:
            UsageError: unknown identity or unusable size.
        """
        if identity not in SPEAKERS:
            raise UsageError(f"no synthetic speaker is called {identity!r}", fix=f"use one of {', '.join(SPEAKERS)}")
        if size < 16:
            raise UsageError(f"a frame of {size} pixels is too small for a face", fix="use 16 or more")
        self.size = size
        self.oversampling = 2 if size >= 128 else 3
        self.who, look = SPEAKERS[identity]
        samples = size * self.oversampling
        pitch = VIEW / samples
        whole = build(self.who, look, pitch)
        self.body = whole.only(*(part for part in whole.slices if part != raster.CLOTH))
        head = self.body.rest[self.body.slices[raster.HEAD]]
        self.expression = Expression(head, self.who)
        self.rig = LandmarkRig(self.who)
        across = np.linspace(-1, 1, 65)
        self.aperture = upper_lid(across, self.who), lower_lid(across, self.who)
        self.rest_normals = raster.vertex_normals(self.body.rest, self.body.triangles)
        self.skin = self.body.triangles[self.body.part == raster.HEAD]
        self.atlas, self.table = _stack_sheets(
            {
                raster.HEAD: paint.face_sheet(self.who, look, 0.6 * pitch),
                raster.EYE_LEFT: paint.eye_sheet(look, 0.6 * pitch),
                raster.TEETH_UPPER: paint.tooth_sheet(True, 0.6 * pitch),
                raster.TEETH_LOWER: paint.tooth_sheet(False, 0.6 * pitch),
                raster.HAIR: paint.hair_sheet(1.4 * pitch),
                raster.CLOTH: paint.cloth_sheet(self.who, 0.6 * pitch),
            }
        )
        self.table[raster.EYE_RIGHT] = self.table[raster.EYE_LEFT]
        self.plate = self._plate(whole.only(raster.CLOTH), paint.room(samples, look.room))

    @property
    def intrinsics(self) -> Array:
        """Camera matrix [3, 3] in pixels."""
        focal = self.size * (CAMERA_DISTANCE - FACE_PLANE) / VIEW
        return np.array([[focal, 0.0, self.size / 2], [0.0, focal, self.size / 2], [0.0, 0.0, 1.0]])

    def world_to_camera(self, animation: Animation) -> Array:
        """Pose of every frame [T, 4, 4]: from the head frame (metres, moves with the skull) to the OpenCV camera."""
        flip = np.diag([1.0, -1.0, -1.0, 1.0])
        flip[:3, 3] = [0.0, CAMERA_HEIGHT, CAMERA_DISTANCE]
        pose = flip @ animation.head_to_pivot()
        pose[:, :3, 3] /= 1000.0
        return pose

    def landmarks(self, animation: Animation, frame_indices: Iterable[int]) -> tuple[Array, Array]:
        """Landmarks of frames without rendering them: [N, 478, 3] metres (head frame) and [N, 478, 2] pixels."""
        frames = list(frame_indices)
        points = np.stack([self.rig.positions(animation, t) for t in frames]) / 1000.0
        pose = self.world_to_camera(animation)[frames]
        seen = np.einsum("nij,nlj->nli", pose[:, :3, :3], points) + pose[:, None, :3, 3]
        k = self.intrinsics
        pixels = seen[..., :2] / seen[..., 2:] * k[0, 0] + k[0, 2]
        return points.astype(np.float32), pixels.astype(np.float32)

    def render(self, animation: Animation, frame_indices: Iterable[int]) -> Frames:
        """Draw frames of an animation."""
        frames = list(frame_indices)
        samples = Samples.of(self.size * self.oversampling)
        rgb = np.empty((len(frames), self.size, self.size, 3), np.uint8)
        labels = np.empty((len(frames), self.size, self.size), np.uint8)
        for i, t in enumerate(frames):
            rgb[i], labels[i] = self._draw(animation, t, samples)
        return Frames(rgb, labels, *self.landmarks(animation, frames))

    def still(self, **coefficients: float) -> Frames:
        """One frame of the motionless head with the given expression coefficients."""
        return self.render(still(1, **coefficients), [0])

    def _plate(self, jumper: Body, room: Array) -> Plate:
        samples = Samples.of(len(room))
        self._shoot(jumper, jumper.rest, raster.vertex_normals(jumper.rest, jumper.triangles), still(), 0, samples)
        return Plate.of(samples, room, self.size)

    def _draw(self, animation: Animation, t: int, samples: Samples) -> tuple[Array, Array]:
        self.plate.lay(samples)
        self._shoot(self.body, *self._deform(animation, t), animation, t, samples)
        return self.plate.frame(samples)

    def _shoot(self, body: Body, points: Array, normals: Array, animation: Animation, t: int, samples: Samples) -> None:
        """Put a mesh with these vertices and normals [V, 3] (head frame, mm) in front of what the samples show."""
        motion = animation.head_to_pivot()[t] if len(animation) == 1 else _motion(animation, t)
        values = {name: float(v) for name, v in zip(NAMES, animation.coefficients[t], strict=False)}
        s, rows = samples, len(samples.depth)
        focal = rows * (CAMERA_DISTANCE - FACE_PLANE) / VIEW
        camera = np.array([focal, rows / 2, CAMERA_HEIGHT, CAMERA_DISTANCE])
        moving, screen = raster.place(points, normals, body.stiffness, motion[:3], camera)
        rasterize(screen, body.triangles, body.open, s.depth, s.owner, s.weights)
        scene, lids = self._scene(animation, t, motion, values)
        raster.shade(
            moving, body.fixed, body.tangents, body.triangles, body.part, s.owner, s.weights, self.atlas, self.table,
            _LIGHTS, LIGHTS, scene, lids, s.irradiance, s.albedo, s.gloss, s.label,
        )  # fmt: skip

    def _deform(self, animation: Animation, t: int) -> tuple[Array, Array]:
        """Vertices and normals [V, 3] float32 in the head frame, mm."""
        body = self.body
        coefficients = animation.coefficients[t]
        jaw = float(coefficients[0])
        tongue_up, tongue_forward = (float(v) for v in coefficients[-2:])
        gaze_yaw, gaze_pitch = (float(v) for v in animation.gaze[t])
        points = body.rest.copy()
        points[body.slices[raster.HEAD]] = self.expression.move(coefficients[: len(NAMES)], -gaze_pitch)
        lower = body.slices[raster.TEETH_LOWER]
        points[lower] = rotate_jaw(points[lower], 1.0, jaw)
        tongue = body.slices[raster.TONGUE]
        tip = smoothstep(50, 84, points[tongue, 2])
        points[tongue, 1] += 9 * tongue_up * tip
        points[tongue, 2] += (7 * tongue_forward + 2 * tongue_up) * tip
        points[tongue] = rotate_jaw(points[tongue], 0.95 - 0.45 * tongue_up, jaw)
        turn = rotation_matrix(gaze_yaw, gaze_pitch, 0.0).astype(np.float32)
        for part, side in ((raster.EYE_LEFT, 1), (raster.EYE_RIGHT, -1)):
            centre = np.array([side * self.who.eye_offset, 0.0, EYE_DEPTH], np.float32)
            points[body.slices[part]] = points[body.slices[part]] @ turn.T + centre
        # Only the face changes its shape; everything else keeps the normals it was built with.
        normals = self.rest_normals.copy()
        normals[body.slices[raster.HEAD]] = raster.vertex_normals(points[body.slices[raster.HEAD]], self.skin)
        for part in (raster.EYE_LEFT, raster.EYE_RIGHT):
            normals[body.slices[part]] = normals[body.slices[part]] @ turn.T
        return points, normals

    def _scene(self, animation: Animation, t: int, motion: Array, values: dict[str, float]) -> tuple[Array, Array]:
        scene = np.zeros(raster.SCENE_SIZE)
        scene[raster.CAMERA : raster.CAMERA + 3] = (0.0, CAMERA_HEIGHT, CAMERA_DISTANCE)
        opening = 1.6 * values["jaw"] + 0.4 * values["lower_lip"] + 0.2 * values["upper_lip"]
        scene[raster.OPENING] = np.clip(opening, 0.0, 1.0) * (1 - 0.6 * values["seal"])
        scene[raster.WHORL_X] = WHORL[0] if self.who.hair == "long" else 0.0
        scene[raster.WHORL_Z] = WHORL[2]
        scene[raster.NECK_Y : raster.NECK_Z + 1] = (-80.0 - 0.5 * self.who.face_length, 0.50, 10.0)
        turn = motion[:3, :3]
        scene[raster.ORIGIN : raster.ORIGIN + 3] = turn @ PIVOT + motion[:3, 3]
        scene[raster.X_AXIS : raster.X_AXIS + 3] = turn[:, 0]
        scene[raster.Y_AXIS : raster.Y_AXIS + 3] = turn[:, 1]
        scene[raster.Z_AXIS : raster.Z_AXIS + 3] = turn[:, 2]
        scene[raster.ORIGIN_Y] = PIVOT[1]
        gaze = turn @ rotation_matrix(animation.gaze[t, 0], animation.gaze[t, 1], 0.0)[:, 2]
        scene[raster.OPTICAL_AXES : raster.OPTICAL_AXES + 6] = np.tile(gaze, 2)
        scene[raster.HALF_APERTURE] = FISSURE_HALF_WIDTH * self.who.eye_width
        scene[raster.EYE_OFFSET] = self.who.eye_offset
        top, bottom = self.aperture
        lids = np.empty((2, 2, 65))
        for eye, name in enumerate(("blink_left", "blink_right")):
            closed = values[name] * (top - bottom)
            lids[eye] = top - UPPER_LID_SHARE * closed, bottom + LOWER_LID_SHARE * closed
        return scene, lids


def _motion(animation: Animation, t: int) -> Array:
    """Rigid motion of one frame, without computing those of all."""
    one = Animation(
        animation.coefficients[t : t + 1],
        animation.rotation[t : t + 1],
        animation.translation[t : t + 1],
        animation.gaze[t : t + 1],
        animation.fps,
    )
    return one.head_to_pivot()[0]


def _stack_sheets(sheets: dict[int, paint.Sheet]) -> tuple[Array, Array]:
    """All sheets in one array [R, C, 8], and the table that finds them [9, 6]. A part without sheet has no rows."""
    width = max(s.values.shape[1] for s in sheets.values())
    atlas = np.zeros((sum(s.values.shape[0] for s in sheets.values()), width, 8), np.float32)
    table = np.zeros((9, 6))
    first = 0
    for part, sheet in sheets.items():
        rows, columns = sheet.values.shape[:2]
        atlas[first : first + rows, :columns] = sheet.values
        table[part] = (first, rows, columns, sheet.low_x, sheet.low_y, 1 / sheet.texel)
        first += rows
    return atlas, table
