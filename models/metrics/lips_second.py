"""How well the lips move in the eyes of a second judge, who has not tracked the face that the head was trained on.

Its network does not see lids close, so there is no r_eye among these. Its small errors follow how the head is held, and
heads move with speech: the gap of lips that hardly move can correlate by 0.4 in either direction. Look at amplitude
beside it.
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
