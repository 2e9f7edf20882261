"""The matrix of heads and drives as heat maps: one table a metric, coloured from worst to best as far as that is sure.

Colours would make much of what is chance, were they stretched from the worst cell to the best whatever the intervals:
their scale is at least `WIDTHS` intervals wide, so that cells whose intervals overlap look alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from models.metrics.base import LEAST_RATIO, merit_of
from tasks.measured import read_json
from tasks.tabular import ARROWS, Cell, Column, Table, number, without_constants

FILE = "matrix.json"
WIDTHS = 4.0  # of the metric's median interval, that the scale of colours has at least
LEGENDS = {True: "stronger is better", False: "stronger: the whole interval lies further from 0"}
COMPARED = (("wrong", "with the wrong sound"), ("own", "the speaker's real footage"))
NOT_YET = (
    "No head has been driven and measured yet: `gausstalk add-drive NAME FILE --language de --gender f`, then run."
)
ABSENT = "there is no data/matrix/matrix.json: the stage matrix has not been run."


@dataclass
class Spot:
    """One cell: its value with interval, how good it is among its kind from 0 to 1, and what a pointer over it says."""

    text: str
    interval: str = ""
    heat: float | None = None
    noise: bool = False
    words: str = ""


@dataclass
class HeatMap:
    """One metric over heads (rows) and drives (columns)."""

    title: str
    words: str
    legend: str
    columns: list[tuple[str, str]]  # name, and language, gender and source
    rows: list[tuple[str, str, list[Spot]]] = field(default_factory=list)  # head, its language and gender, spots
    told: bool = True  # some cell has a value
    rated: bool = True  # there is a better and a worse


@dataclass
class Matrix:
    """All heat maps and the comparison of groups, or why there are none."""

    why: str = ""
    maps: list[HeatMap] = field(default_factory=list)
    groups: Table | None = None
    absent: list[str] = field(default_factory=list)  # metrics without any value, and why
    notes: list[str] = field(default_factory=list)
    noise: list[tuple[str, ...]] = field(default_factory=list)  # speaker, method, extractor, drive, metric within noise


def read_matrix(folder: Path) -> Matrix:
    """Read data/matrix; without a file or cells the reason is in `why`."""
    path = folder / FILE
    if not path.is_file():
        return Matrix(ABSENT)
    content = read_json(path)
    if not content.get("cells"):
        return Matrix(NOT_YET)
    matrix, absent = Matrix(groups=without_constants(groups_table(content))), dict[str, list[str]]()
    for metric, about in content["metrics"].items():
        found = heat_map(metric, about, content)
        if found.told:
            matrix.maps.append(found)
        else:
            whys = {cell["values"].get(metric, {}).get("why", "") for cell in content["cells"]}
            why = "; ".join(sorted(why for why in whys if why)) or "it was not measured"
            absent.setdefault(why, []).append(metric)
    matrix.absent = [f"{', '.join(names)}: {why}" for why, names in absent.items()]
    matrix.noise = [
        (*_head(cell), cell["drive"], metric)
        for cell in content["cells"]
        for metric, told in cell["values"].items()
        if told.get("noise")
    ]
    about = content.get("about", {})
    matrix.notes = [f"{name}: {about[name]}" for name in ("sync_house",) if about.get(name)]
    if about.get("block_seconds"):
        matrix.notes.append(f"Intervals of 95 %: blocks of {about['block_seconds']:g} s drawn anew.")
    return matrix


def heat_map(metric: str, about: dict[str, Any], content: dict[str, Any]) -> HeatMap:
    """Return one metric's heat map, heads and drives in the order of the file."""
    unit, better = about.get("unit", ""), about.get("better", "")
    cells = {(_head(cell), cell["drive"]): cell for cell in content["cells"]}
    found = [cell["values"].get(metric, {}) for cell in content["cells"]]
    known = [told for told in found if told.get("value") is not None]
    scale = Scale(known, better)
    arrow = ARROWS.get(better, "")
    title = f"{metric}{f' [{unit}]' if unit not in ('', '1') else ''}{f' {arrow}' if arrow else ''}"
    legend = "; ".join(filter(None, (LEGENDS[bool(better)], scale.words if len(known) > 1 else "")))
    columns = [(drive["name"], _about(drive, "language", "gender", "kind", "source")) for drive in content["drives"]]
    result = HeatMap(title, about.get("words", ""), legend, columns, told=bool(known), rated=bool(better))
    for head in content["heads"]:
        spots = [spot_of(cells.get((_head(head), drive["drive"])), metric, about, scale) for drive in content["drives"]]
        result.rows.append((" / ".join(_head(head)), _about(head, "language", "gender"), spots))
    return result


class Scale:
    """From 0 to 1 how good the values of one metric are, or, of what is only told, how far their intervals are from 0.

    Args:
        known: the values of all cells that have one, with their intervals.
        better: the metric's direction.
    """

    def __init__(self, known: Sequence[dict[str, Any]], better: str) -> None:
        self.better = better
        merits = [_strength(told["value"], better) for told in known]
        sure = [told for told in known if told.get("low") is not None]
        width = median(_width(told, better) for told in sure) if sure else 0.0
        self.middle = (min(merits) + max(merits)) / 2 if better and merits else 0.0
        self.span = max(max(merits) - min(merits) if better else max(merits), WIDTHS * width) if merits else 0.0
        self.words = self._words(known, sure)

    def _words(self, known: Sequence[dict[str, Any]], sure: Sequence[dict[str, Any]]) -> str:
        if len(sure) < len(known):
            return "some cells have no interval: what is chance in them is not known"
        if not self.better or not known:
            return ""
        best = max(known, key=lambda told: _strength(told["value"], self.better))
        apart = sum(not (told["low"] <= best["high"] and best["low"] <= told["high"]) for told in known)
        if not apart:
            return "every interval overlaps that of the best cell: none stands out"
        return f"the intervals of {apart} of {len(known)} cells do not overlap that of the best"

    def heat(self, told: dict[str, Any]) -> float:
        """Return where a value lies on the scale."""
        if self.better:
            return 0.5 + (_strength(told["value"], self.better) - self.middle) / self.span if self.span else 0.5
        ends = [told["value"]] if told.get("low") is None else [told["low"], told["high"]]
        nearest = 0.0 if min(ends) <= 0 <= max(ends) else min(map(abs, ends))
        return min(1.0, nearest / self.span) if self.span else 0.0


def _width(told: dict[str, Any], better: str) -> float:
    """Return the width of an interval on the scale of `_strength`, of ratios that of their logarithms."""
    if better == "1":
        return math.log(max(told["high"], LEAST_RATIO) / max(told["low"], LEAST_RATIO))
    return told["high"] - told["low"]


def spot_of(cell: dict[str, Any] | None, metric: str, about: dict[str, Any], scale: Scale) -> Spot:
    """Return one cell."""
    if cell is None:
        return Spot("–", words="this head has not been driven by it")
    found, unit = cell["values"].get(metric, {}), about.get("unit", "")
    if found.get("value") is None:
        return Spot("n/a", words=found.get("why") or "it was not measured")
    interval = f"{number(found['low'], unit)} to {number(found['high'], unit)}" if found.get("low") is not None else ""
    words = [f"95 % interval {interval}" if interval else "too few blocks for an interval"]
    words += [f"{label} {number(found[key], unit)}" for key, label in COMPARED if found.get(key) is not None]
    words += (
        ["within noise: chance explains what it is better by than with the wrong sound"] if found.get("noise") else []
    )
    words += [", ".join(cell.get("groups", [])), f"{cell['seconds']:g} s" if cell.get("seconds") else ""]
    text = "; ".join(word for word in words if word)
    return Spot(number(found["value"], unit), interval, round(scale.heat(found), 3), bool(found.get("noise")), text)


def _strength(value: float, better: str) -> float:
    """Return a number that is larger the better a value is; of what is only told, the further it is from 0."""
    return merit_of(value, better) if better else abs(value)


def groups_table(content: dict[str, Any]) -> Table:
    """Return one row for every group, metric and kind of head."""
    names = ("group", "metric", "method", "extractor", "speakers", "cells", "value", "against", "its value", "verdict")
    table = Table("groups", "Groups of drives", [Column(name) for name in names])
    for row in (row for row in content.get("groups", []) if row.get("value") is not None):
        unit = row["unit"]
        value = _between(row.get("value"), row.get("low"), row.get("high"), unit)
        other = _between(row.get("other"), row.get("other_low"), row.get("other_high"), unit) if row["against"] else ""
        verdict = {True: "within noise", False: "differ", None: ""}[row.get("noise") if row["against"] else None]
        keys = [Cell(str(row[key])) for key in ("group", "metric", "method", "extractor", "speakers", "cells")]
        cells = [Cell(value, row.get("why", "")), Cell(row["against"]), Cell(other), Cell(verdict, row.get("why", ""))]
        table.rows.append([*keys, *cells])
    table.notes.append("Within noise: the two intervals overlap. Intervals are over windows and speakers.")
    return table


def _between(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    interval = f" ({number(low, unit)} to {number(high, unit)})" if low is not None else ""
    return number(value, unit) + (interval if value is not None else "")


def _head(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["speaker"], entry["method"], entry["extractor"]


def _about(entry: dict[str, Any], *names: str) -> str:
    return ", ".join(str(entry[name]) for name in names if entry.get(name))
