"""What a head does while it speaks, besides its lips: where pose, torso, brows, glances and blinks come from."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree
from torch import Tensor

from models.gaussians.camera import Camera
from models.heads.motion import jaw_pixels, least_turns, transfer
from tasks.scene import Scene, Shot
from tasks.shots import back_and_forth

log = logging.getLogger("gausstalk")

FADE = 0.25  # share of the new torso that each picture takes in when the nearest frame is another one
TORN = 0.03  # of the picture's width: from such a distance on, a neck may visibly not meet its head
TURNED = 6.0  # degrees: a head turned by more than in all of its clip shows sides that nothing has taught it
WEAK_BLINK = 0.5  # of AU45; a clip whose lids close by less has taught the head no blink
CLOSING_S, SHUT_S, OPENING_S = 0.08, 0.05, 0.19  # of one blink
SHORTEST_PAUSE_S = 0.5  # between two of them


@dataclass(frozen=True)
class Acting:
    """How a head acts. As it stands: as in its own clip, whose longest shot runs back and forth."""

    poses: np.ndarray | None = None
    """`[n, 4, 4]` of another clip: its head motion about the mean pose of this one. A clip's torso belongs to its own
    poses, so behind each picture is the torso of the own frame whose jaw is nearest, faded over from frame to frame."""
    expression: Tensor | None = None
    """`[n, E]` action units and gaze of another clip."""
    neutral: bool = False
    """Brows, lids and gaze stay at the clip's median."""
    blinks: Literal["own", "none"] | float = "own"
    """Those of the clip, none, or so many a minute at random times."""
    seed: int = 0
    """Of the times of blinks."""


def perform(scene: Scene, acting: Acting = Acting()) -> Iterator[Shot]:
    """Yield what each picture needs besides the sound, without end."""
    seen = _own(scene) if acting.poses is None else _following(scene, acting.poses)
    for (camera, behind), expression in zip(seen, _expressions(scene, acting), strict=False):
        yield Shot(camera, expression, behind)


def _own(scene: Scene) -> Iterator[tuple[Camera, np.ndarray]]:
    for frame in back_and_forth(*scene.longest_shot()):
        yield scene.camera(frame), scene.layers.behind(frame)


def _following(scene: Scene, others: np.ndarray) -> Iterator[tuple[Camera, np.ndarray]]:
    first, end = scene.longest_shot()
    own = scene.poses[first:end]
    poses = transfer(others, own)
    jaws = [jaw_pixels(some, scene.intrinsics).reshape(len(some), -1) for some in (own, poses)]
    distance, nearest = cKDTree(jaws[0]).query(jaws[1])
    far, turned = distance / (jaws[0].shape[1] / 2) ** 0.5, least_turns(poses, scene.poses[scene.valid])
    torn = (far > TORN * scene.size[0]) | (turned > TURNED)
    if torn.any():
        log.warning(
            "in %d of %d poses the head is up to %.0f pixels and %.0f degrees away from every pose of its own clip: "
            "its neck may not meet the torso, cheeks and jaw may be torn",
            torn.sum(), len(torn), far.max(), turned.max(),
        )  # fmt: skip
    behind = scene.layers.behind(first + int(nearest[0]))
    for index in back_and_forth(0, len(poses)):
        behind = behind + FADE * (scene.layers.behind(first + int(nearest[index])) - behind)
        yield scene.camera_of(poses[index]), behind


def _expressions(scene: Scene, acting: Acting) -> Iterator[Tensor]:
    own = scene.expression[slice(*scene.longest_shot())]
    middle = own.median(0).values
    rows = own if acting.expression is None else acting.expression
    source = repeat(middle) if acting.neutral else (rows[index] for index in back_and_forth(0, len(rows)))
    if acting.blinks == "own":
        yield from source
        return
    lids_open, shut = middle[scene.blink], own[:, scene.blink].max()
    if acting.blinks != "none" and shut - lids_open < WEAK_BLINK:
        log.warning("nobody blinks in the clip, so neither will the head")
    closures = repeat(0.0) if acting.blinks == "none" else blink_closures(acting.blinks, scene.fps, acting.seed)
    for row, closure in zip(source, closures, strict=False):
        changed = row.clone()
        changed[scene.blink] = lids_open + closure * (shut - lids_open)
        yield changed


def blink_closures(per_minute: float, fps: float, seed: int) -> Iterator[float]:
    """Yield how far the lids are closed in each picture, 0 to 1, without end.

    A lid falls in 80 ms, stays for 50 and rises in 190. Pauses are at least half a second and otherwise exponential, so
    that blinks come as irregularly as a person's.

    Args:
        per_minute: blinks in the long run, above 0; at most one every 0.82 s is possible.
        fps: pictures a second.
        seed: of the pauses.
    """
    random = np.random.default_rng(seed)
    length = CLOSING_S + SHUT_S + OPENING_S
    mean_pause = max(60.0 / per_minute - length - SHORTEST_PAUSE_S, 0.0)
    start, frame = float(random.exponential(mean_pause)), 0
    while True:
        time = frame / fps - start
        if time >= length:
            start += length + SHORTEST_PAUSE_S + float(random.exponential(mean_pause))
            continue
        yield float(np.interp(time, [0, CLOSING_S, CLOSING_S + SHUT_S, length], [0, 1, 1, 0])) if time > 0 else 0.0
        frame += 1
