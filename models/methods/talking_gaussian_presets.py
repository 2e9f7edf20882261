"""Presets of TalkingGaussian's training as data: what they set, stage by stage, in place of the phases' defaults.

    cpu       the defaults: a clip of a minute at 256 x 256 in minutes on two cores; landmarks teach the motion field
              first, poses are refined
    best      the same with seven action units, twice the steps of the face, and LPIPS at the end of fusing
    demo      that of cpu, for the demo speaker's clip of 20 seconds
    released  what the official code runs: coarse grids, six action units, a face curriculum of blinks only
    paper     what the paper says: fine grids, seven action units, and the lip curriculum of the first release

`released` and `paper` leave out what is not of the official method: landmarks, refined poses, gaze, articulation. The
known faults of the official code are mended in them, too; each can be had back by a key, see docs/talking_gaussian.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from models.methods.talking_gaussian_phases import BLACK, GEOMETRY, GREEN, RELEASED_FROZEN

Sections = dict[str, dict[str, Any]]

# Of both branches' 50 000 steps: 3000 without motion.
WARM = 0.06
RATES = {
    "means": 1.6e-4,
    "means_curve": ({"factor": 0.01, "over": 0.9, "until": 0.9},),
    "quats": 1e-3,
    "raw_scales": 3e-3,
    "raw_opacities": 0.05,
    "colors": 2.5e-3,
    "harmonics": 1.25e-4,
    "appearance_curve": (),
    "networks": 5e-4,
    "audio": 5e-4,
    "audio_attention": 2.5e-3,
    "grid": 5e-3,
    "audio_decay": 0.0,
    "attention_decay": 1e-4,
    "grid_decay": 1e-2,
}
DENSITY = {
    "rule": "threshold",
    "start": 0.01,
    "every": 0.002,
    "capacity": 200_000,  # none is known
    "split_above": 0.005,
    "prune_above": 0.1,
    # No prune_radius_px: the official code names a limit of 20 px at 512 pixels, too, but as it is inherited from 3D
    # Gaussian Splatting it zeroes the radii before it compares them. Where they are compared, most of a face vanishes.
    "prune_size_from": WARM,
    "remove_unseen": False,
    "least": 500,  # not in the official code: in a schedule that `scale` shortens, Gaussians cannot shrink in time
}
BRANCH = {
    "steps": 50_000,
    "placing": "cube",
    "opacity": 0.1,
    "unit": "extent",
    "whole_frames": True,
    "harmonics": {"every": 0.02},
    "moved": {"start": WARM},
    "alpha": {"weight": 1e-3, "start": WARM},
}
FACE = {
    **BRANCH,
    "points": 2000,
    "backdrops": ({"colors": (GREEN,)},),
    "frozen": (),
    "mouth_box": 0.0,
    "motion": {"weight": 1e-5, "start": WARM},
    "landmarks": 0.0,
    "attention": {"weight": 1e-4, "start": WARM, "every": 1},
    "hide_hair": {"weight": 1.0, "start": WARM, "end": 0.92, "rests": 7},
    "close_mouth": {"weight": 1.0, "start": 0.94},
    "lip_lpips": {"weight": 0.01, "start": 0.94},
    "patch_lpips": {"weight": 0.2, "start": 0.94},
    "rates": {**RATES, "networks_curve": ({"factor": 0.5, "over": 0.8, "until": 0.8}, {"factor": 0.1})},
    "density": {
        **DENSITY,
        "stop": 0.98,
        "gradient": 5e-4,
        "prune_opacity": (0.05, 0.05 + 0.25 / 0.98),  # 0.30 when it stops
        "green_limits": (30 / 255, 225 / 255),
        "green_until": 1.0,
    },
    "windows": (
        {"by": "opening", "every": 15, "phase": (0.0, WARM), "low": (0.04, 0.10), "high": (0.36, 0.42)},
        {"by": "blink", "every": 15, "phase": (WARM, 0.8), "low": (-0.075, 0.85), "high": (0.375, 1.3)},
    ),
}
MOUTH = {
    **BRANCH,
    "points": 10_000,
    "backdrops": ({"colors": (GREEN,), "end": 0.98}, {"colors": (BLACK,), "start": 0.98}),
    "frozen": ({"parts": ("motion", *GEOMETRY), "start": 0.98},),
    "inside": 0.0,
    "motion": 0.0,
    "patch_lpips": {"weight": 0.5, "start": 0.98},
    "least_pixels": 5,  # 20 at 512 pixels
    "rates": {**RATES, "networks_curve": ({"factor": 0.5, "over": 0.78, "until": 0.78}, {"factor": 0.1, "over": 0.98})},
    "density": {
        **DENSITY,
        "stop": 0.9,
        "gradient": 2e-4,
        "prune_opacity": (0.05, 0.05 + 0.25 / 0.9),
        "green": "shrink",
        "green_limits": (20 / 255, 235 / 255),
    },
    "windows": (
        {"by": "parting", "every": 1, "phase": (0.0, WARM), "low": (0.95, 0.95)},
        {"by": "parting", "every": 7, "phase": (WARM, 0.78), "low": (0.896, 0.25)},
    ),
}
FUSE = {
    "steps": 10_000,
    "unit": "extent",
    "whole_frames": True,
    "frozen": tuple(asdict(row) for row in RELEASED_FROZEN),
    "mouth_box": 0.0,
    "patch_lpips": {"weight": 0.5, "start": 0.5},
    "rates": {**RATES, "raw_opacities": 1e-3, "means_curve": (), "networks_curve": ()},
}
SEVEN_UNITS = ("AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU45")
BEST: Sections = {
    # With the embedding's 96 numbers more, the field learns a clip's sound by heart unless it is disturbed more.
    "tg_motion": {"action_units": SEVEN_UNITS, "phase": {"audio_noise": 0.5}},
    "tg_face": {"phase": {"steps": 8000}},
    "tg_fuse": {
        "phase": {"mouth_box": 1.0, "patch_lpips": {"weight": 0.05, "start": 0.5}, "lpips": "squeeze_caffe"},
    },
}
RELEASED: Sections = {
    "pose_refine": {"rounds": 0},
    "tg_motion": {"sh_degree": 2, "gaze": False, "phase": {"steps": 0}},
    "tg_face": {"phase": FACE},
    "tg_mouth": {"sh_degree": 2, "phase": MOUTH},
    "tg_fuse": {"articulation": 1.0, "phase": FUSE},
}
PAPER: Sections = {
    **RELEASED,
    "tg_motion": {
        **RELEASED["tg_motion"],
        "face_grid": (16, 256.0),
        "action_units": SEVEN_UNITS,
    },
    "tg_face": {
        "phase": {
            **FACE,
            "close_mouth": 0.0,
            "windows": (
                {"by": "opening", "every": 30, "phase": (WARM, 0.8), "low": (0.10, 0.84), "high": (0.42, 1.16)},
                {
                    **{"by": "blink", "every": 15, "offset": 7, "phase": (WARM, 0.8)},
                    **{"low": (-0.075, 0.85), "high": (0.375, 1.3)},
                },
            ),
        }
    },
    "tg_mouth": {**RELEASED["tg_mouth"], "mouth_grid": (64, 384.0)},
}
PRESETS: dict[str, Sections] = {"cpu": {}, "best": BEST, "demo": {}, "released": RELEASED, "paper": PAPER}


def presets_of(section: str) -> Mapping[str, Mapping[str, Any]]:
    """Return what every preset sets in a section of params.yaml."""
    return {name: sections.get(section, {}) for name, sections in PRESETS.items()}
