"""Two runs side by side: their numbers with what chance makes of the differences, and their videos in step.

Runs of other true frames, another split or another size are refused: see `tasks.comparable`.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.audio.align import FPS
from models.errors import InputError, UsageError
from models.metrics import all_metrics
from models.metrics.base import Metric, block_draws, blocks_of, in_common, interval_of, mean_of, merit_of
from tasks.charts import line_chart
from tasks.comparable import caveats, why_copied, why_not_comparable
from tasks.measured import Measured, imported_words, read_measured
from tasks.people import MARKS, why_not_shown
from tasks.per_frame import FILE, read_per_frame
from tasks.places import Places
from tasks.tabular import Cell, Column, Table, number
from tasks.tracking import KEY, STATE, open_store
from tasks.windows import REGION, read_windows

DRAWS = 1000
FEW_BLOCKS = 10.0
LARGEST_VIDEO = 60_000_000  # bytes in the page; a longer one is named instead
VIDEOS = ("side_by_side.mp4", "result.mp4")  # the first that both have
CURVES = (
    ("r_open", "face", "How far the lips are open, over the distance of the eyes"),
    *(("PSNR", "mouth", "PSNR mouth, dB"), ("LMD", "face", "LMD, px")),
)
NO_INTERVAL = "no interval: frame by frame it is not stored"
IN_COMMON = "over the frames that both have: one of them lacks some"
TAUGHT_ANEW = "no interval: not measured by one and the same network of the project; dvc repro, then gausstalk publish"


@dataclass(frozen=True)
class Run:
    """A published result."""

    key: str
    run_id: str
    measured: Measured
    frames: Any  # the rows of the variant "full" of per_frame.parquet, None where none was stored
    videos: dict[str, Path]  # by file name
    windows: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)  # of metrics that have more than a value

    @property
    def name(self) -> str:
        """What tells it from another state of the same key."""
        return f"{self.key} ({self.run_id[:8]})"


@dataclass(frozen=True)
class Difference:
    """One number of both runs."""

    metric: str
    region: str
    unit: str
    better: str
    one: float | None
    other: float | None
    low: float = math.nan  # of other minus one, 95 %
    high: float = math.nan
    paired: float = math.nan  # of other minus one, over the frames of both where one of them lacks some
    gain_low: float = math.nan  # of the other's merit less the one's, 95 %
    gain_high: float = math.nan
    why: str = ""  # there is no interval, or a value is absent

    @property
    def change(self) -> float | None:
        """The other one's less the one's, where one of them has lost frames that the other has: of those of both."""
        if not math.isnan(self.paired):
            return self.paired
        return None if self.one is None or self.other is None else self.other - self.one

    @property
    def verdict(self) -> str:
        """Who is better, "within noise" if chance explains the difference, "" where nobody can say."""
        if self.change == 0:
            return "same"
        if self.change is None or math.isnan(self.low):
            return ""
        if self.gain_low <= 0 <= self.gain_high:
            return "within noise"
        if not self.better:
            return "differs"
        return "second better" if self.gain_low > 0 else "first better"


def open_run(places: Places, name: str) -> Run:
    """Return a published run by its id, the beginning of its id, or its key (the newest of that key).

    Raises:
        UsageError: there is none, or several begin so.
        ConsentError: there is no valid basis for showing whose head it is.
        InputError: it holds no numbers.
    """
    client, experiment = open_store(places)
    runs = list(client.search_runs([experiment], f"tags.`{STATE}` = 'published'", max_results=5000))
    runs.sort(key=lambda run: -run.info.start_time)
    found = [run for run in runs if run.data.tags.get(KEY) == name][:1]
    if not found and re.fullmatch("[0-9a-f]{6,32}", name):
        found = [run for run in runs if run.info.run_id.startswith(name)]
    if len(found) != 1:
        keys = sorted({run.data.tags[KEY] for run in runs if "/" in run.data.tags.get(KEY, "")})
        why = f"{len(found)} ids begin so" if found else f"there are {', '.join(keys) or 'none'}"
        raise UsageError(f"no run {name!r}", why, "name a key or an id of MLflow: gausstalk ui; gausstalk publish")
    run = found[0]
    if refused := why_not_shown(places, run.data.tags[KEY].split("/")[0]):
        raise refused
    folder = Path(client.download_artifacts(run.info.run_id, ""))
    files = sorted(folder.glob("metrics/*/metrics.json"))
    if not files:
        raise InputError(f"{name}: that run holds no numbers of a head or a drive", "", "gausstalk publish writes them")
    videos = {path.name: path for path in sorted(folder.glob("videos/*/*.mp4"))}
    folder = files[0].parent
    return Run(run.data.tags[KEY], run.info.run_id, read_measured(files[0]), _frames(folder), videos, _windows(folder))


def _frames(folder: Path) -> Any:
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        table = read_per_frame(path)
    except InputError:
        return None  # of a run that another version has published: no interval, but its numbers hold
    return table[table["variant"] == "full"]


def _windows(folder: Path) -> dict[tuple[str, str], np.ndarray]:
    try:
        return read_windows(folder)
    except InputError:
        return {}  # as above


def compare(one: Run, other: Run) -> list[Difference]:
    """Return every number that both runs, or one of them, have.

    Intervals are of the difference, from neighbouring frames drawn anew, the same of both.

    Raises:
        InputError: they were not measured on the same frames.
        UsageError: they are one and the same.
    """
    if one.run_id == other.run_id:
        raise UsageError(f"both are the run {one.name}", "it differs in nothing from itself", "name two runs")
    why = why_not_comparable(one.measured.about, other.measured.about)
    if why:
        fix = (
            "name two runs of one speaker and drive; if they are, measure both anew: dvc repro, then gausstalk publish"
        )
        raise InputError(f"{one.name} and {other.name} cannot be compared", why, fix)
    metrics = all_metrics()
    rows = [row for run in (one, other) for row in run.measured.rows if row["variant"] == "full"]
    differences = []
    for metric, region in dict.fromkeys((row["metric"], row["region"]) for row in rows):
        row = next(row for row in rows if (row["metric"], row["region"]) == (metric, region))
        values = [run.measured.find(metric, region, "full") for run in (one, other)]
        first, second = (found["value"] if found else None for found in values)
        told = Difference(metric, region, row["unit"], row["better"], first, second)
        differences.append(_with_interval(told, metrics.get(metric), one, other))
    return differences


def _with_interval(told: Difference, metric: Metric | None, one: Run, other: Run) -> Difference:
    if told.one is None or told.other is None:
        absent = one if told.one is None else other
        cell = absent.measured.cell(told.metric, told.region)
        return replace(told, why=f"absent of {absent.name}: {cell.why or 'not measured'}")
    if copied := why_copied(one.measured.about, other.measured.about, told.metric, told.region):
        return replace(told, why=f"no verdict: {copied}")
    taught = metric.taught if metric else ""
    if taught and one.measured.about.get("taught", {}).get(taught) != other.measured.about.get("taught", {}).get(
        taught
    ):
        return replace(told, why=TAUGHT_ANEW)
    ours, theirs = (_stored(run, told.metric, told.region, metric) for run in (one, other))
    if ours is None or theirs is None or ours[0] != theirs[0]:
        return replace(told, why=NO_INTERVAL)
    (frames, first), (_, second) = ours, theirs
    summary = metric.summary if metric else mean_of  # what is no metric of its own is a mean over frames, or refused:
    # what is stored of numbers that read more of a frame than this does not give them again.
    if not np.allclose([summary(first), summary(second)], [told.one, told.other], atol=1e-4):
        return replace(told, why=NO_INTERVAL)
    length = max(1, round(float(one.measured.about.get("block_seconds", 1.0)) * FPS))
    blocks = blocks_of(np.array(frames), length)
    if first.shape != second.shape:
        return replace(told, why=NO_INTERVAL)
    if (np.isnan(first) != np.isnan(second)).any():
        first, second = in_common(first, second)
        told = replace(told, paired=summary(second) - summary(first), why=IN_COMMON)

    def drawn(columns: np.ndarray) -> np.ndarray:
        return block_draws(lambda chosen: summary(columns[chosen]), blocks, DRAWS)

    values = drawn(first), drawn(second)
    low, high = interval_of(values[1] - values[0])
    if math.isnan(low):
        return replace(told, why="too few blocks of frames")
    known = np.isfinite(values[0] + values[1])
    merits = [[merit_of(value, told.better) if told.better else value for value in side[known]] for side in values]
    gain_low, gain_high = interval_of(np.subtract(merits[1], merits[0]))
    return replace(told, low=low, high=high, gain_low=gain_low, gain_high=gain_high)


def _stored(run: Run, name: str, region: str, metric: Metric | None) -> tuple[list[int], np.ndarray] | None:
    """Return frames and the columns that a metric is summed up from, as far as they were stored."""
    found = _columns(run, name, region)
    if found is None:
        return None
    frames = found.index.tolist()
    if metric and metric.compares in ("speech", "talker"):  # what it tells of each frame is not all that it needs
        windows = run.windows.get((name, "full")) if region == REGION else None
        return None if windows is None or len(windows) != len(frames) else (frames, windows)
    return frames, found[["value", "against"] if found["against"].notna().any() else ["value"]].to_numpy(np.float64)


def _columns(run: Run, metric: str, region: str) -> Any:
    """Return what was stored of a metric, `value` and `against` by frame, None where nothing was."""
    if run.frames is None:
        return None
    found = run.frames[(run.frames["metric"] == metric) & (run.frames["region"] == region)]
    return found.set_index("frame").sort_index()[["value", "against"]] if len(found) else None


def as_row(told: Difference) -> dict[str, Any]:
    """Return a difference as a program reads it: no number is None."""
    values = {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in vars(told).items()}
    return {**values, "change": told.change, "verdict": told.verdict}


def table_of(one: Run, other: Run, differences: Sequence[Difference]) -> Table:
    """Return the differences as a table."""
    columns = [Column("metric"), Column("region"), Column("first"), Column("second"), Column("second minus first")]
    columns += [Column("95 % interval"), Column("verdict")]
    table = Table("compare", f"{one.name} against {other.name}", columns)
    for told in differences:
        unit = told.unit
        sign = "" if told.change is None or told.change < 0 else "+"
        interval = f"{number(told.low, unit)} to {number(told.high, unit)}"
        better = {"first better": 1, "second better": 2}.get(told.verdict, 0)
        table.rows.append(
            [
                Cell(Column(told.metric, unit, told.better).heading),
                Cell("" if told.region == "all" else told.region),
                Cell(number(told.one, unit), told.why, rank=int(better == 1)),
                Cell(number(told.other, unit), told.why, rank=int(better == 2)),
                Cell("n/a" if told.change is None else f"{sign}{number(told.change, unit)}", told.why),
                Cell("n/a", told.why) if math.isnan(told.low) else Cell(interval),
                Cell(told.verdict or "n/a", told.why),
            ]
        )  # fmt: skip
    table.notes = [
        f"{which}: {run.name}: {run.measured.conditions()}" for which, run in (("first", one), ("second", other))
    ]
    table.notes.append(
        "Within noise: the 95 % interval of the difference holds zero (where 1 is best: that of how much nearer to 1 "
        "it comes, half being as far off as twice). It comes from neighbouring frames drawn anew, "
        "the same of both; it says nothing of another training with another seed."
    )
    if shorter := [f"{told.metric} {told.region}" for told in differences if told.why == IN_COMMON]:
        table.notes.append(
            f"Of {', '.join(shorter)} one of the two has fewer frames (missed_frames: in which no face is found): "
            "difference, interval and verdict are of the frames that both have."
        )
    about = one.measured.about
    blocks = float(about.get("seconds", math.inf)) / float(about.get("block_seconds", 1.0))
    if blocks < FEW_BLOCKS:
        table.notes.append(f"About {blocks:.0f} blocks are few: the intervals are rough, and rather too narrow.")
    table.notes += caveats(one.measured.about, other.measured.about)
    return table


def page_of(one: Run, other: Run, table: Table) -> str:
    """Return the page: videos in step, curves over the same time, the table."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    file = next((name for name in VIDEOS if name in one.videos and name in other.videos), "")
    videos = [(run.name, imported_words(run.measured.about), _source(run.videos.get(file))) for run in (one, other)]
    mark = next((MARKS[b] for b in (r.measured.about.get("basis", "") for r in (one, other)) if MARKS.get(b)), "")
    return environment.get_template("compare.html.j2").render(
        title=table.title,
        mark=mark,
        videos=videos if all(source for *_, source in videos) else [],
        wide=file == "side_by_side.mp4",
        charts=[(title, Markup(chart)) for title, chart in _charts(one, other)],  # noqa: S704 - drawn here
        table=Markup(table.as_html()),  # noqa: S704 - it escapes its cells
        fps=FPS,
    )


def _source(path: Path | None) -> str:
    if path is None or path.stat().st_size > LARGEST_VIDEO:
        return ""
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _charts(one: Run, other: Run) -> list[tuple[str, str]]:
    charts = []
    for metric, region, title in CURVES:
        first, second = (_columns(run, metric, region) for run in (one, other))
        if first is None or second is None or list(first.index) != list(second.index):
            continue
        lines = {"first": first["value"], "second": second["value"], "truth": first["against"]}
        drawn = {name: [None if math.isnan(v) else float(v) for v in found] for name, found in lines.items()}
        chart = line_chart(drawn, first.index.tolist(), "frame", width=1200)
        charts += [(title, chart.html)] if chart else []
    return charts
