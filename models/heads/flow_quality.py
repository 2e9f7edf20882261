"""How a fitted head's motion agrees with optical flow, also with corners that the fit has not seen."""

from __future__ import annotations

import numpy as np

from models.heads.fit_state import State
from models.heads.flow import Flow, acceleration_error
from models.heads.rigid_motion import Surface, rotation_accelerations

Array = np.ndarray


def flow_figures(
    state: State, surface: Surface, flow: Flow | None, told: Array, judge: Flow | None, focal: float
) -> dict[str, float]:
    """Compare accelerations of a fitted head with measured ones.

    Args:
        state: The fitted state.
        surface: The fitted head.
        flow: What the fit was given, normalised, or None.
        told: `[T, 3]` accelerations of the rotation that the fit has made out of that.
        judge: What other corners say, normalised, or None.
        focal: Focal length in pixels.

    Returns:
        Root mean squares. Of the nose in pixels per frame squared: `flow_error_px` against what the fit was given, and
        against the judge `held_out_flow_error_px`, `held_out_flow_motion_px` (the judge's own acceleration) and
        `held_out_flow_floor_px` (how far the two measurements differ by their own noise: no fit can be nearer to one
        than that). The same three of the rotation in degrees per frame squared: `held_out_rotation_error_deg` and so
        on. A figure that cannot be measured is left out.
    """
    figures: dict[str, float] = {}
    if flow is not None:
        figures["flow_error_px"] = focal * acceleration_error(state.ray, flow.nose)
    if flow is not None and judge is not None:
        second = np.full((len(state.ray), 3), np.nan)
        second[1:-1] = np.diff(state.turning(), axis=0)
        held_out, _ = rotation_accelerations(state, surface, judge.corners)
        figures |= {
            "held_out_flow_error_px": focal * acceleration_error(state.ray, judge.nose),
            "held_out_flow_floor_px": focal * _rms(flow.nose - judge.nose),
            "held_out_flow_motion_px": focal * _rms(judge.nose),
            "held_out_rotation_error_deg": np.degrees(_rms(second - held_out)),
            "held_out_rotation_floor_deg": np.degrees(_rms(told - held_out)),
            "held_out_rotation_motion_deg": np.degrees(_rms(held_out)),
        }
    return {name: float(value) for name, value in figures.items() if np.isfinite(value)}


def _rms(vectors: Array) -> float:
    squared = (vectors**2).sum(axis=1)
    known = np.isfinite(squared)
    return float(np.sqrt(squared[known].mean())) if known.any() else float("nan")
