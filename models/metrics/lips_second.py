"""How well the lips move in the eyes of a second judge, who has not tracked the face that the head was trained on.

Its network does not see lids close, so there is no r_eye among these.
"""

from __future__ import annotations

from dataclasses import replace

from models.metrics import lips
from models.metrics.base import Metric

JUDGE = "openseeface_landmarks"


def _second(metric: Metric) -> Metric:
    name = f"{metric.name}_second"
    who = "OpenSeeFace's landmarker, which has not tracked and gives 18 of the lip points"
    return replace(
        metric, name=name, definition=f"{metric.definition}, read by {who}", compares="second", needs=(JUDGE,)
    )


METRICS = tuple(map(_second, lips.METRICS))
