"""Settings of the head fit: the strengths of its energies and its schedule, as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.errors import UsageError


@dataclass(frozen=True)
class Phase:
    """Some Gauss-Newton steps with the same settings.

    Attributes:
        name: For progress and the energy curve.
        steps: At most this many; fewer when the energy has settled.
        expression: Whether expressions move.
        identity: Whether the shared identity moves.
        corrections: Whether fixed landmark corrections are updated after each step.
        turning: Whether what optical flow tells of rotations counts; for it the head must be in its place.
        robust: Scale of the robust loss in sigmas. The first steps need plain squares: while everything is far
            off, a robust loss would call every point an outlier.
    """

    name: str
    steps: int
    expression: bool = True
    identity: bool = False
    corrections: bool = False
    turning: bool = False
    robust: float = 10.0


IDENTITY_SCHEDULE: tuple[Phase, ...] = (
    Phase("align the mean face", 3, expression=False, robust=math.inf),
    Phase("find the identity", 4, identity=True, robust=math.inf),
    Phase("refine the identity", 8, identity=True),
    # Few steps: each hands a little more of the face's size from the identity to its depth.
    Phase("correct the landmarks", 3, identity=True, corrections=True),
)
"""On some spread frames, without ties between them."""

CLIP_SCHEDULE: tuple[Phase, ...] = (
    Phase("place every frame", 2, expression=False, robust=math.inf),
    Phase("follow every frame", 8, turning=True),
)
"""On all frames with their temporal ties; who it is is known by then."""


@dataclass(frozen=True)
class Smoothness:
    """Standard deviations of second differences between frames."""

    rotation_deg: float
    sideways_m: float
    depth_m: float


@dataclass(frozen=True)
class FitParams:
    """Settings of the fit; the strengths are relative to one landmark at one standard deviation.

    Attributes:
        focal_factor: Focal length over the larger image side.
        landmark_sigma: Standard deviation of a landmark as a share of the distance of the outer eye corners.
        jaw: Weight of a landmark on the jaw line.
        jaw_slides: Share of such a landmark's distance along the jaw line that is disregarded: the line is seen, but
            nothing on it tells one place from the next.
        gap: Weight of a lid or lip opening.
        identity: Weight of squared identity coefficients. More than the 1 of independent landmark noise, because the
            embedding's errors are the same in all frames; real faces then get coefficients of about one.
        expression: Weight of squared expression coefficients, each in its standard deviations.
        box: Weight of squared excess of expressions over their range, as a share of it.
        correction_sd_m: Smallest and largest standard deviation of the fixed landmark corrections; in between it is
            estimated from what the frames agree on. While the focal length is a guess no head fits exactly, and
            without corrections the identity would bend to make up for it; with a known one the smallest may be 0.
        identity_frames: How many spread frames identity is found from.
        with_flow: Smoothness where optical flow says how the nose accelerates. Rotations are as free as it says they
            must be, but no less than here.
        without_flow: Smoothness where it does not.
        expression_sd: Standard deviation of an expression's second difference, in its standard deviations.
        snap_lids: Whether blinks are closed exactly at the end.
        identity_schedule: Phases on the spread frames.
        clip_schedule: Phases on all frames; they move neither the identity nor the corrections.
    """

    focal_factor: float = 2.3
    landmark_sigma: float = 0.012
    jaw: float = 1.0
    jaw_slides: float = 0.9
    gap: float = 4.0
    identity: float = 5.0
    expression: float = 0.3
    box: float = 3000.0
    correction_sd_m: tuple[float, float] = (0.0005, 0.001)
    identity_frames: int = 64
    with_flow: Smoothness = Smoothness(rotation_deg=0.05, sideways_m=3e-5, depth_m=3e-4)
    without_flow: Smoothness = Smoothness(rotation_deg=0.15, sideways_m=3e-4, depth_m=1e-3)
    expression_sd: float = 0.6
    snap_lids: bool = True
    identity_schedule: tuple[Phase, ...] = IDENTITY_SCHEDULE
    clip_schedule: tuple[Phase, ...] = CLIP_SCHEDULE

    def __post_init__(self) -> None:
        """Refuse a clip schedule that asks for what only the identity schedule does.

        Raises:
            UsageError: naming the phase.
        """
        for phase in self.clip_schedule:
            if phase.identity or phase.corrections:
                raise UsageError(f"phase '{phase.name}' of the clip schedule moves the identity or the corrections")
