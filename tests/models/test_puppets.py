"""The fit on puppets of a real head model; `python -m tests.models.puppets` prints all of it for more of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from puppets import FRAME_BY_FRAME, PARAMS, Puppet, errors, fit, head_model, make_puppet, slide_jaw

from models.heads.fit import HeadFit
from models.heads.mediapipe_points import JAW, RING_POINTS
from models.heads.model import HeadModel

FRAMES = 60


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return head_model()


@pytest.fixture(scope="module")
def puppet(model: HeadModel) -> Puppet:
    return make_puppet(model, 0, FRAMES)


@pytest.fixture(scope="module")
def fitted(puppet: Puppet) -> HeadFit:
    return fit(puppet)


def test_pose_and_shape_are_found_and_do_not_tremble(puppet: Puppet, fitted: HeadFit) -> None:
    together, alone = errors(puppet, fitted), errors(puppet, fit(puppet, FRAME_BY_FRAME))
    assert together["rotation_deg"] < 0.35
    assert together["vertex_mm"] < 0.5
    assert together["rotation_jitter_deg"] < alone["rotation_jitter_deg"] / 8
    assert together["pixel_jitter_px"] < alone["pixel_jitter_px"] / 3


def test_flow_steadies_what_all_landmarks_of_a_frame_share(model: HeadModel) -> None:
    puppet = make_puppet(model, 0, FRAMES, common=1.0)
    assert errors(puppet, fit(puppet, flow=True))["pixel_jitter_px"] < 0.3
    assert errors(puppet, fit(puppet))["pixel_jitter_px"] > 0.6


def test_flow_tells_how_the_head_turns_between_unevenly_spaced_frames(model: HeadModel) -> None:
    puppet = make_puppet(model, 0, FRAMES, common=1.0, every=6)
    told, untold = errors(puppet, fit(puppet, flow=True)), errors(puppet, fit(puppet, flow=True, turning=False))
    assert told["rotation_jitter_deg"] < 0.6 * untold["rotation_jitter_deg"]
    assert told["pixel_jitter_px"] < 0.6 * untold["pixel_jitter_px"]
    assert told["rotation_deg"] < untold["rotation_deg"]


def test_landmarks_that_lie_where_the_model_has_them_are_not_corrected(puppet: Puppet, fitted: HeadFit) -> None:
    """Corrections would take from the identity; misplaced landmarks are still corrected."""
    assert np.linalg.norm(fitted.landmark_offsets, axis=1).mean() < 0.2e-3
    bias = np.random.default_rng(3).normal(0, 2.0, (478, 2)).astype(np.float32)
    bias[list(RING_POINTS)] = 0
    corrected = fit(replace(puppet, points=puppet.points + bias)).landmark_offsets
    usual = ~np.isin(puppet.model.landmark_index, (*RING_POINTS, *JAW))
    assert np.linalg.norm(corrected[usual], axis=1).mean() > 0.8e-3


def test_points_may_slide_along_the_jaw_line(puppet: Puppet) -> None:
    slid = slide_jaw(puppet, 6.0)
    bound = errors(slid, fit(slid, replace(PARAMS, jaw_slides=0.0)))
    free = errors(slid, fit(slid))
    assert free["jaw_mm"] < 0.85 * bound["jaw_mm"]
