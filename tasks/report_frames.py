"""What the report shows frame by frame: curves under a video, the worst frames, and the frames that failed."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.charts import Chart, line_chart
from tasks.galleries import WIDE, caption
from tasks.measured import Measured, read_json
from tasks.tabular import ARROWS, Cell, Column, Table, number
from tasks.words import counted

if TYPE_CHECKING:
    from pandas import DataFrame

SERIES = {  # what a frame's own value is, where the metric is more than its mean
    "r_open": "lip gap over eye distance",
    "r_open_second": "lip gap over eye distance, second judge",
    "r_eye": "lid gap over eye distance",
    "r_sound": "lip gap and loudness of the sound, each over its own range",
    "r_talker": "lip gap of the result and of who says the drive, each over its own range",
    "opening": "lip gap over eye distance",
    "blink_rate": "lid gap over eye distance",
    "specks": "isolated pixels",
    "flicker": "change of pixels that should keep still, levels of 255",
    "jitter": "tremble of the skull's points, % of the eye distance",
}
FIRST = ("r_open", "r_talker", "r_sound", "r_eye", "PSNR", "LMD")  # curves that tell most
CONSTANT = ("closed_share", "found_share", "opening")  # all or nothing, or drawn as another
LINES = {  # variant -> name and colour; the truth is what the result is held against
    "truth": ("truth", 0),
    "full": ("result", 1),
    "wrong_audio": ("result with the wrong sound", 2),
    "wrong_sound": ("the same with the wrong sound", 2),
    "static": ("best control that does not hear", 3),
}
BESIDE = {"r_sound": "loudness", "r_talker": "who says it"}  # what has another range than the result
SAME = 0.995  # correlation of two curves of which one is enough
HEIGHT, WIDTH = 120, 1200


@dataclass
class Curve:
    """One metric over time."""

    title: str
    name: str  # of a file
    words: str
    chart: Chart


@dataclass
class Tile:
    """One frame of a gallery: where it stands in its JPEG, and when in the video."""

    label: str
    words: str
    box: str
    seconds: float


@dataclass
class Gallery:
    """Frames of one metric or one way to fail, cut out of one JPEG."""

    title: str
    words: str
    name: str
    source: str
    width: int
    height: int
    tiles: list[Tile] = field(default_factory=list)


@dataclass
class Frames:
    """Curves, worst frames and failures of one head."""

    curves: list[Curve] = field(default_factory=list)
    worst: list[Gallery] = field(default_factory=list)
    failed: list[Gallery] = field(default_factory=list)
    failures: Table | None = None
    step: float = 0.04  # seconds that a frame takes in the video


def curves_of(table: DataFrame, measured: Measured) -> list[Curve]:
    """Return the curves of all metrics that differ, the most telling first; their x axis is the time of the video."""
    table = table.sort_values(by="frame", kind="stable")
    result = table.loc[table.variant == "full"]
    pairs = dict.fromkeys(zip(result.metric, result.region, strict=True))
    chosen = [(m, r) for m, r in pairs if r not in WIDE and m not in CONSTANT]
    order = {name: place for place, name in enumerate(FIRST)}
    drawn: list[tuple[np.ndarray, np.ndarray]] = []
    curves: list[Curve] = []
    for metric, region in sorted(chosen, key=lambda pair: order.get(pair[0], len(FIRST))):
        rows = table.loc[(table.metric == metric) & (table.region == region)]
        own = rows.loc[rows.variant == "full"]
        both = own.value.to_numpy(), own.against.to_numpy()
        if any(_same(both[0], values) and _same(both[1], against) for values, against in drawn):
            continue
        lines = _lines(metric, rows, own)
        seconds = (np.arange(len(own)) * _step(table)).round(3).tolist()
        label = "seconds of the video"
        if own.frame.iloc[0]:
            label += f"; 0 is frame {own.frame.iloc[0]} of the clip"
        colours = dict(LINES.values()) | dict.fromkeys(BESIDE.values(), 2)
        chart = line_chart(lines, seconds, label, width=WIDTH, height=HEIGHT, colours=colours)
        if chart:
            drawn.append(both)
            name = f"{metric}_{region}"
            curves.append(Curve(_title(metric, region, measured), name, measured.definitions.get(metric, ""), chart))
    return curves


def _lines(metric: str, rows: DataFrame, own: DataFrame) -> dict[str, list[float | None]]:
    """Return the lines of one metric by name, over the frames of the result."""
    lines: dict[str, list[float | None]] = {}
    if metric in BESIDE:
        return {"result": _numbers(_spread(own.value)), BESIDE[metric]: _numbers(_spread(own.against))}
    if own.against.notna().any():
        lines["truth"] = _numbers(own.against)
    for variant, (name, _) in LINES.items():
        found = rows.loc[rows.variant == variant]
        # Curves whose truth is known need no control but the wrong sound: four lines hide each other.
        if len(found) == len(own) and (variant != "static" or "truth" not in lines):
            lines.setdefault(name, _numbers(found.value))
    return {name: lines[name] for name, _ in LINES.values() if name in lines}


def _step(table: DataFrame) -> float:
    """Return the seconds of a frame in the video."""
    steps = np.diff(np.unique(np.asarray(table.loc[table.variant == "full"].time, float)))
    return round(float(np.median(steps)), 6) if len(steps) else 0.04


def _spread(values: Any) -> Any:
    return (values - values.min()) / max(1e-9, values.max() - values.min())


def _numbers(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if len(a) != len(b) or (np.isnan(a) != np.isnan(b)).any():
        return False
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a) or np.array_equal(a, b):
        return True
    return bool(a.std() > 1e-9 and b.std() > 1e-9 and np.corrcoef(a, b)[0, 1] > SAME)


def _title(metric: str, region: str, measured: Measured) -> str:
    row = measured.find(metric, region, "full")
    name = metric if region == "face" else f"{metric} {region}"
    unit, arrow = (row["unit"], ARROWS.get(row["better"], "")) if row else ("", "")
    heading = f"{name}{f' [{unit}]' if unit not in ('', '1') else ''}{f' {arrow}' if arrow else ''}"
    value = f", {number(row['value'], unit)} over all" if row else ""
    return f"{SERIES[metric]} ({heading}{value})" if metric in SERIES else f"{heading}{value}"


def frames_of(table: DataFrame | None, folder: Path, measured: Measured) -> Frames:
    """Return what is shown of a head's frames; `folder` is where evaluate has left its galleries."""
    frames = Frames(curves_of(table, measured), step=_step(table)) if table is not None else Frames()
    path = folder / "galleries.json"
    if not path.is_file():
        return frames
    content = read_json(path)
    step = frames.step
    for entry in content["worst"]:
        title = _title(entry["metric"], entry["region"], measured)
        if entry["same"]:
            names = ", ".join(" ".join((other["metric"], other["region"])) for other in entry["same"])
            title += f"; nearly the same frames: {names}"
        frames.worst.append(gallery_of(folder, entry, title, measured.definitions.get(entry["metric"], ""), step))
    columns = [Column(name) for name in ("how it failed", "frames", "share", "which are those")]
    frames.failures = Table("failures", "Frames that failed", columns)
    for entry in content["failures"]:
        count = entry["count"]
        share = "n/a" if count is None else f"{100 * count / content['tests']:.1f} %"
        shown = Cell("n/a", f"{entry['metric']} is absent") if count is None else Cell(str(count))
        frames.failures.rows.append([Cell(entry["name"]), shown, Cell(share), Cell(entry["words"])])
        if entry["frames"]:
            title = f"{entry['name']}: {counted(entry['count'], 'frame')}, the worst {len(entry['frames'])}"
            frames.failed.append(gallery_of(folder, entry, title, f"{entry['words']} ({entry['metric']})", step))
    return frames


def gallery_of(folder: Path, entry: dict[str, Any], title: str, words: str, step: float) -> Gallery:
    """Return a gallery; `step` is how many seconds a frame takes in the video."""
    path = folder / entry["file"]
    source = f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"
    gallery = Gallery(title, words, path.stem, source, *entry["size"])
    for frame in entry["frames"]:
        box = " ".join(map(str, frame["box"]))
        seconds = (frame["position"] + 0.5) * step
        gallery.tiles.append(
            Tile(
                f"frame {frame['frame']}, {seconds:.1f} s",
                caption(frame["numbers"], entry["unit"], entry["metric"]),
                box,
                seconds,
            )
        )
    return gallery
