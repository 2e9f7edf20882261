"""Rows of metrics, controls against controls, bars and intervals: what evaluation writes and tables read.

A row is dict(speaker, method, extractor, split, drive, region, variant, metric, value, unit, better); a value is always
finite. What could not be measured is listed under "absent" with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from models.metrics import all_metrics
from models.metrics.base import LEAST_BLOCKS, Metric, block_bootstrap, in_common, not_ready
from models.records import Rendering
from tasks.params import Params

STATIC = "static"
OTHER_MOMENT = "other_moment"
UNHEARING = ("motion_off", "mean_motion", "constant_lips")
"""Variants that do not hear the sound; the strongest of them, metric by metric, is the control called static."""

MISSED = Metric(
    "missed_frames",
    "frames",
    "lower",
    "test frames in which the judge finds the face in the truth but not in the rendering",
    "landmarks",
    not_ready,
)
"""Counted beside the metrics of landmarks, which leave these frames out: no interval, but it may be a bar."""

TOO_SHORT = "too short to judge"

VARIANTS = {
    "full": "the trained head driven by its own sound",
    "motion_off": "the same head without any deformation",
    "mean_motion": "the same head with the mean of its motion in training: of each Gaussian, or of what is spoken",
    "wrong_audio": "the same head hearing the sound of another moment",
    "constant_lips": "landmarks only: the mean lip shape of training, moving with the head",
    STATIC: "for each metric the strongest of motion_off, mean_motion and constant_lips",
    "judge": "the judge's landmarks on the true frames against known ones (computed with the footage, else of the "
    "stage landmarks): the error of measuring",
    "reread": "the true frames read by the second judge once more, its crop a pixel aside: its own error of measuring",
    "truth": "the true frames themselves, for what needs no other frames to compare with",
    OTHER_MOMENT: "the true frames against true frames half the test part away: as alike as one person can be expected",
    "speaker": "the speaker's own footage for comparison: of training; for a network of the project, which has learnt "
    "from that, of the test part",
    "wrong_sound": "the same frames against another moment of the drive: its sound, and the lips of who says it",
}


class Bar(Params):
    """What a trained head must reach: a metric's value, or its difference or ratio against a control."""

    name: str
    metric: str
    region: str
    variant: str = "full"
    compare: Literal["value", "difference", "ratio"] = "value"
    against: str = ""  # wrong_audio, static (the strongest of the three that do not hear) or another variant
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Bar:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        if (self.compare == "value") == bool(self.against):
            raise ValueError("'against' belongs to a difference or a ratio, and only to them")
        return self

    @model_validator(mode="after")
    def _known_names(self) -> Bar:
        metrics = {**all_metrics(), MISSED.name: MISSED}
        if self.metric == MISSED.name and self.against:
            raise ValueError(f"{MISSED.name} is counted: only its value can be a bar")
        _check_known("metric", self.metric, metrics)
        metric = metrics[self.metric]
        regions = metric.regions if metric.compares == "frames" else ("face",)
        _check_known(f"region for {self.metric}", self.region, regions)
        _check_known("variant", self.variant, VARIANTS)
        _check_known("variant", self.against or self.variant, VARIANTS)
        return self


def _check_known(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise ValueError(f"there is no {what} {name!r}, but {', '.join(known)}")


@dataclass
class Scores:
    """Per-frame columns of every (metric, region, variant), the rows made of them, and what they tell of each frame."""

    keys: dict[str, str]  # speaker, method, extractor, split, drive ("" for its own sound)
    columns: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    series: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)  # [n, 1] or [n, 2], see by_frame
    rows: list[dict[str, Any]] = field(default_factory=list)
    absent: list[dict[str, str]] = field(default_factory=list)
    strongest: dict[tuple[str, str], str] = field(default_factory=dict)  # which variant "static" is

    def add(
        self,
        metric: str,
        value: float,
        unit: str,
        better: str,
        region: str = "all",
        variant: str = "full",
        why: str = "",
    ) -> None:
        """Add a row, or say why there is none when `value` is not finite."""
        if not math.isfinite(value):
            reason = why or "it is not defined on these frames"
            self.absent.append({"metric": metric, "region": region, "variant": variant, "why": reason})
            return
        row = {**self.keys, "region": region, "variant": variant, "metric": metric}
        self.rows.append({**row, "value": round(float(value), 6), "unit": unit, "better": better})

    def add_columns(self, metric: Metric, region: str, variant: str, columns: np.ndarray, why: str = "") -> None:
        """Keep the columns `[n, k]` of a metric and add the row of their summary, or `why` there is none."""
        self.columns[metric.name, region, variant] = columns
        self.series[metric.name, region, variant] = metric.by_frame(columns)
        why = why or (metric.unknown if columns.shape[1] == 2 else "")
        self.add(metric.name, metric.summary(columns), metric.unit, metric.better, region, variant, why)

    def value(self, metric: str, region: str, variant: str) -> float:
        """Return the value of a row, NaN if it is absent."""
        for row in self.rows:
            if (row["metric"], row["region"], row["variant"]) == (metric, region, variant):
                return float(row["value"])
        return float("nan")

    def add_static(self, metrics: Mapping[str, Metric]) -> None:
        """Add for every metric and region the control "static": the strongest variant that does not hear."""
        for name, region in dict.fromkeys((name, region) for name, region, _ in self.columns):
            metric = metrics[name]
            values = {v: self.value(name, region, v) for v in UNHEARING if (name, region, v) in self.columns}
            known = {variant: value for variant, value in values.items() if not math.isnan(value)}
            if not known or not metric.better:
                continue
            best = max(known, key=lambda variant: metric.merit(known[variant]))
            self.strongest[name, region] = best
            self.add_columns(metric, region, STATIC, self.columns[name, region, best])

    def _why_absent(self, bar: Bar) -> str:
        for entry in self.absent:
            if entry["metric"] == bar.metric and (entry["region"], entry["variant"]) == (bar.region, bar.variant):
                return entry["why"]
        return f"{bar.metric} of {bar.variant} or of {bar.against or bar.variant} is absent"

    def judge_bar(
        self, bar: Bar, metrics: Mapping[str, Metric], blocks: list[np.ndarray], draws: int
    ) -> dict[str, Any]:
        """Return a bar with its value, 95 % interval over blocks of frames, and whether it is reached.

        `ok` and `value` are None with the reason in `why` when something it needs is absent.
        """
        metric = MISSED if bar.metric == MISSED.name else metrics[bar.metric]
        own = self.columns.get((bar.metric, bar.region, bar.variant))
        other = self.columns.get((bar.metric, bar.region, bar.against)) if bar.against else None
        if own is not None and other is not None:
            own, other = in_common(own, other)

        def statistic(positions: np.ndarray) -> float:
            value = metric.summary(own[positions]) if own is not None else float("nan")
            if bar.compare == "value":
                return value
            control = metric.summary(other[positions]) if other is not None else float("nan")
            if bar.compare == "difference":
                return value - control
            return value / control if control else float("nan")

        count = len(own) if own is not None else 0
        value = statistic(np.arange(count)) if count else float("nan")
        low, high = block_bootstrap(statistic, blocks, draws) if count else (float("nan"), float("nan"))
        if metric is MISSED:
            value = self.value(bar.metric, bar.region, bar.variant)
        known = math.isfinite(value)
        why = "" if known else self._why_absent(bar)
        short = known and len(blocks) < LEAST_BLOCKS
        if short:
            why = f"{TOO_SHORT}: {sum(map(len, blocks))} test frames in {len(blocks)} blocks"
        reached = value >= bar.at_least if bar.at_least is not None else value <= (bar.at_most or 0.0)
        static = self.strongest.get((bar.metric, bar.region), "") if bar.against == STATIC else ""
        keys = {key: self.keys[key] for key in ("speaker", "method", "extractor", "split")}
        return {
            **keys,
            **bar.model_dump(),
            "unit": "1" if bar.compare == "ratio" else metric.unit,
            "against_is": static,
            "value": round(value, 6) if known else None,
            "low": _finite(low),
            "high": _finite(high),
            "blocks": len(blocks),
            "ok": bool(reached) if known and not short else None,
            "why": why,
        }


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def definitions(metrics: Mapping[str, Metric], more: Mapping[str, str]) -> dict[str, str]:
    """Return what every metric and variant means, so that the words travel with the numbers."""
    named = {metric.name: metric.words for metric in metrics.values()}
    return {**named, **more, **{f"variant {name}": text for name, text in VARIANTS.items()}}


def device_of(rendering: Rendering) -> str:
    """Return what the head was rendered on."""
    quality = rendering.quality
    threads = quality.get("threads")
    words = [str(quality.get("device", "cpu"))]
    words += [f"{threads} thread{'' if threads == 1 else 's'}"] if threads else []
    words += [f"{quality['rasteriser']} rasteriser"] if "rasteriser" in quality else []
    return ", ".join(words)
