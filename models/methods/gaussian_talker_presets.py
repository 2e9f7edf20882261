"""Presets of GaussianTalker's training as data: what they set in place of the defaults, stage by stage.

cpu             a clip of a minute at 256 x 256 in minutes on two cores
best            the same: no change that was tried is better
demo            for the demo speaker's 20 seconds: a minute for each module on one core
paper, released sizes, weights and the renderer's rates of the paper's supplement; how long it trains, and at which
                rates the others do, is not known. There is no released code, so both are the same
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Sections = dict[str, dict[str, Any]]

TABLE_2 = {
    "means": 1.6e-4,
    "quats": 1e-3,
    "raw_scales": 5e-3,
    "raw_opacities": 5e-2,
    "colors": 2.5e-3,
    "harmonics": 1.25e-4,
    "position_basis": 1.6e-4,
    "rotation_basis": 1e-3,
    "color_basis": 5e-4,
    "weights": 1e-4,
    "shape": 1e-4,
    "expression": 1e-3,
    "jaw": 1e-4,
    "orient": 1e-5,
    "translation": 1e-5,
    "means_curve": ({"factor": 0.01},),
    "appearance_curve": (),
}
PAPER: Sections = {
    "gt_motion": {
        "width": 512,
        "inner": 1024,
        "encoder_layers": 4,
        "around": None,
        "phase": {
            "steps": 50_000,
            "windows": 16,
            "vertices": 1000.0,
            "smoothness": 1000.0,
            "lips": 1.0,
            "latent": {"weight": 1e-3, "every": 1},
            "audio_noise": 0.0,
            "opening": 0.0,
            "others": {"weight": 1.0, "end": 0.94},
            "frozen": ({"parts": ("encoder",), "start": 0.94},),
            "rates": {"encoder": 1e-4, "own": 1e-4},
        },
    },
    "gt_renderer": {
        "gaussians": 10_522,
        "sh_degree": 3,
        "color_bands": 16,
        "latent": "first",
        "shape": "per_frame",
        "phase": {
            "steps": 50_000,
            "opacity": 0.1,
            "harmonics": {"every": 0.02},
            "windows": (),
            "face_lpips": 0.1,
            "mouth_box": 0.0,
            "skin_alone": 0.0,
            "frozen": ({"parts": ("head",), "end": 0.04}, {"parts": ("blend_shapes",), "end": 0.08}),
            "rates": TABLE_2,
            "density": {
                "rule": "threshold",
                "start": 0.01,
                "stop": 0.3,
                "every": 0.002,
                "gradient": 2e-4,
                "capacity": 200_000,
                "prune_opacity": (0.005, 0.005),
            },
        },
    },
    "gt_inpaint": {
        "width": 32,
        "blocks": 4,
        "stem": 1,
        "phase": {"steps": 20_000, "hole_lpips": 0.1, "rates": {"network": 2e-4}},
    },
}
DEMO: Sections = {
    # A synthetic voice says a sound in the same way every time: more can be learnt of it, and less is by heart.
    "gt_motion": {"phase": {"steps": 1000, "audio_noise": 0.2}},
    "gt_renderer": {"phase": {"steps": 1000}},
    "gt_inpaint": {"phase": {"steps": 200}},
}
PRESETS: dict[str, Sections] = {"cpu": {}, "best": {}, "demo": DEMO, "released": PAPER, "paper": PAPER}


def presets_of(section: str) -> Mapping[str, Mapping[str, Any]]:
    """Return what every preset sets in a section of params.yaml."""
    return {name: sections.get(section, {}) for name, sections in PRESETS.items()}
