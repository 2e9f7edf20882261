"""What the stages that render tell of their pictures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tasks import rendering


def test_a_frame_takes_what_it_takes_to_hear_and_to_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "write_previews", lambda *_: None)
    output, preview = tmp_path / "output", tmp_path / "preview"
    output.mkdir()
    context = SimpleNamespace(output=output, preview=preview, threads=1, params=None, speaker=lambda: None)
    clip = SimpleNamespace(frames=np.zeros((9, 4, 4, 3), np.uint8))
    asked = []

    def pictures(variant: str) -> Iterator[np.ndarray]:
        asked.append(variant)
        time.sleep(0.5 if len(asked) == 1 else 0.0)  # as kernels are compiled when they are first needed
        for _ in range(5):
            time.sleep(0.02 if variant == "full" else 0.0)  # a control does not compute any motion
            yield clip.frames[0]

    told = rendering.render_variants(
        cast("Any", context),
        "drawn",
        cast("Any", clip),
        np.arange(5),
        ("full", "motion_off", "mean_motion"),
        pictures,
        {},
        hearing=0.03,
    )
    assert 50 <= told.quality["milliseconds_a_frame"] < 100
