"""One page that shows everything: videos, tables, curves, pictures of every stage, and what went wrong.

Beside it lie its numbers and curves once more, as `dvc metrics` and `dvc plots` read them.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.errors import ConsentError, UsageError
from tasks.charts import Chart, line_chart
from tasks.heat_map import Matrix, read_matrix
from tasks.measured import (
    Measured,
    absent_table,
    bars_cell,
    bars_table,
    controls_table,
    drives_table,
    main_table,
    quality_table,
    read_json,
    within_noise,
)
from tasks.methods import METHODS, rendered_heads
from tasks.params import names_listed
from tasks.people import Drive, Speaker, load_drive, load_speaker, mark_of
from tasks.per_frame import FILE, read_per_frame
from tasks.places import Keys, Places
from tasks.report_frames import Curve, Frames, curves_of, frames_of
from tasks.scores import VARIANTS
from tasks.stage import Context, NoParams, Stage, main
from tasks.tabular import Cell, Column, Table

STAGE = Stage(
    name="report",
    per=(),
    params=NoParams,
    folder="data/report",
    lists=("speakers", "extractors", "drives", "gaussian_talkers"),
)
PAGE = "report.html"
CELL = ("speaker", "method", "extractor", "drive")  # of the matrix
LARGEST_VIDEO = 60_000_000  # bytes; a longer one is named instead of shown
TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".mp4": "video/mp4"}
PARTS = (
    *(("overview", "Overview"), ("curves", "Curves"), ("worst", "Worst frames"), ("failures", "Failures")),
    *(("matrix", "Matrix"), ("numbers", "Numbers"), ("preparation", "Preparation"), ("definitions", "Definitions")),
)
LOOK_FOR = {
    "ingest": "The whole face in every frame, upright and sharp; nothing cut off at chin or hair.",
    "landmarks": "Lips (red) on the lips' edge, lids (blue) on their rims, also with the mouth wide open and the eyes "
    "shut.",
    "track": "Above, the fitted mesh: it sits on nose, eyes and jaw, turns with the head and does not swim. Below, its "
    "landmarks (red) on the measured ones (green): green shows where they part; their distance stands above.",
    "parse": "Skin peach, lips red, teeth white, mouth dark red, hair violet, neck yellow, cloth green; below, what "
    "counts as the head. No holes in hair or cheeks, a clean border at the neck.",
    "layers": "A room without the person, and a torso (on chequers) that goes on behind the head without a seam; "
    "below, both together.",
    "pose_refine": "What a still face differs from the frame, four times enlarged, before and after: smaller after, "
    "above all at the rim of the head. Open mouths and closed eyes stay.",
    "action_units": "Above each frame its number and the three strongest units with their intensity, 0 to 5. The "
    "curves rise with what the frames show: brows (1, 2, 4), lids (45, 5, 7), lips and jaw (25, 26, 12, 20), gaze.",
    "gt_renderer": "GaussianTalker: frames that it never saw, drawn with their tracked motion, and four times the "
    "difference. Lips, lids and teeth as in the frame, no seam round the face.",
    "audio": "Bright columns where there is speech, dark ones in pauses, aligned with the sound.",
}
UNIT_WORDS = {
    **{"AU01": "inner brow raiser", "AU02": "outer brow raiser", "AU04": "brow lowerer", "AU05": "upper lid raiser"},
    **{"AU06": "cheek raiser", "AU07": "lid tightener", "AU09": "nose wrinkler", "AU10": "upper lip raiser"},
    **{"AU12": "lip corner puller", "AU14": "dimpler", "AU15": "lip corner depressor", "AU17": "chin raiser"},
    **{"AU20": "lip stretcher", "AU23": "lip tightener, with 24", "AU25": "lips part", "AU26": "jaw drop"},
    "AU45": "blink",
}


@dataclass
class Picture:
    """A picture or video as it stands in the page."""

    title: str
    source: str  # data: address, empty if it is too large
    words: str = ""
    poster: str = ""
    id: str = ""  # of a video that curves stand under
    curves: list[Curve] = field(default_factory=list)  # over its time


@dataclass
class Head:
    """One trained head of a speaker."""

    name: str
    key: str  # in identities of the page
    folder: str  # of its plots: method and extractor, or the other system
    videos: list[Picture] = field(default_factory=list)
    drives: list[Picture] = field(default_factory=list)
    bars: Table | None = None
    reached: str = ""
    all_reached: bool | None = None
    missed: list[str] = field(default_factory=list)  # names of bars
    training: list[tuple[str, Chart]] = field(default_factory=list)
    frames: Frames = field(default_factory=Frames)


@dataclass
class Fitness:
    """How fit the footage is to learn from."""

    verdict: str
    findings: Table
    figures: Table
    timeline: Picture | None = None


@dataclass
class Section:
    """What the page says of one speaker."""

    key: str
    name: str
    facts: list[tuple[str, str]]
    mark: str = ""
    refused: str = ""
    heads: list[Head] = field(default_factory=list)
    beside: list[Picture] = field(default_factory=list)  # of each head the same frames, where there are several
    strips: list[Picture] = field(default_factory=list)
    fitness: Fitness | None = None
    units: Table | None = None
    verdicts: list[str] = field(default_factory=list)  # on the footage, and on the preparation
    quality: Table | None = None  # figures with a bar
    told: Table | None = None  # figures without


def run(context: Context[NoParams]) -> None:
    """Write report.html, metrics and plots into data/report."""
    places = context.places
    content = read_json(places.root / "data" / "tables" / "everything.json")
    heads = [Measured(**entry) for entry in content["heads"]]
    imported = [Measured(**entry) for entry in content.get("imported", [])]
    every = [*heads, *imported]
    drives = [Measured(**entry) for entry in content["drives"]]
    matrix = read_matrix(places.root / "data" / "matrix")
    for one in drives:
        one.about["noise"] = [metric for *head, metric in matrix.noise if head == [one.about[key] for key in CELL]]
    sections = [
        section_of(places, name, every, drives, content["quality"]) for name in names_listed(places.params, "speakers")
    ]
    for section in sections:
        if not section.refused:
            section.verdicts = content["verdicts"].get(section.key, [])
            section.fitness = fitness_of(places, section.key, content.get("fitness", {}).get(section.key, {}))
            section.units = units_table(content.get("action_units", {}).get(section.key, {}))
    tables = [
        main_table(every).turned(3),
        controls_table(every).turned(4, len(VARIANTS)),
        drives_table(drives).turned(4),
    ]
    tables.append(absent_table([*every, *drives], together=True))
    page = render(sections, [table for table in tables if table.rows], matrix, VARIANTS | content["definitions"])
    (context.output / PAGE).write_text(page, encoding="utf-8")
    write_numbers(context.output / "metrics", [*every, *drives])
    for section in sections:
        write_plots(context.output / "plots" / section.key, section)


def write_numbers(folder: Path, measured: list[Measured]) -> None:
    """Write the result's numbers, metric -> region, one file for each head and drive: a row each of `dvc metrics`."""
    for one in measured:
        numbers: dict[str, dict[str, float]] = {}
        for row in one.rows:
            if row["variant"] == "full":
                numbers.setdefault(row["metric"], {})[row["region"]] = row["value"]
        keys = [str(one.about[key]) for key in ("speaker", "method", "extractor")]
        path = folder.joinpath(*keys, f"{one.about.get('drive') or 'own_sound'}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(numbers, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def write_plots(folder: Path, section: Section) -> None:
    """Write the curves of a speaker's heads as pictures that need no page and no network."""
    for head in section.heads:
        charts = [(f"training {phase}", f"training_{phase}", chart) for phase, chart in head.training]
        charts += [(curve.title, curve.name, curve.chart) for curve in head.frames.curves]
        for title, name, chart in charts:
            path = folder / head.folder / f"{name}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(chart.alone(f"{head.name}: {title}"), encoding="utf-8")


def render(sections: list[Section], tables: list[Table], matrix: Matrix, definitions: dict[str, str]) -> str:
    """Return the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    folder = Path(__file__).resolve().parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["table"] = lambda table: Markup(table.as_html(definitions))  # noqa: S704 - it escapes its cells
    environment.filters["chart"] = lambda chart: Markup(chart.html)  # noqa: S704 - it escapes its words
    return environment.get_template("report.html.j2").render(
        parts=PARTS, sections=sections, tables=tables, matrix=matrix, definitions=sorted(definitions.items())
    )


def section_of(
    places: Places, key: str, heads: list[Measured], drives: list[Measured], quality: list[dict[str, Any]]
) -> Section:
    """Collect what is there of one speaker; without a valid basis nothing of the likeness is shown."""
    try:
        speaker = load_speaker(places, key)
    except ConsentError as error:
        return Section(key, key, [], refused=f"{error.what}. {error.why}")
    base = places.root / "data" / "preview" / key
    section = Section(key, speaker.name, facts_of(speaker), mark_of(speaker.basis), strips=strips_of(base))
    rows = [row for row in quality if row.get("speaker") == key]
    judged = [row for row in rows if row.get("bar") is not None]
    told = [row for row in rows if row.get("bar") is None]
    section.quality = quality_table(judged, named=False) if judged else None
    section.told = quality_table(told, False, f"{len(told)} more figures without a bar") if told else None
    own = {keys_of(head): head for head in heads if head.about["speaker"] == key}
    known = {replace(keys, method=method.name) for method, keys in rendered_heads(places, key)} | own.keys()
    order = list(METHODS)
    for keys in sorted(known, key=lambda keys: (order.index(str(keys.method)) if keys.extractor else 99, str(keys))):
        section.heads.append(head_of(places, keys, own.get(keys), drives))
        section.beside += alone(places, keys, section.heads[-1].name)
    section.beside = section.beside if len(section.beside) > 1 else []
    return section


def keys_of(head: Measured) -> Keys:
    """Return what tells a head of ours, or the frames of another system, from all others."""
    about = head.about
    if about.get("imported"):
        return Keys(about["speaker"], method=about["method"])
    return Keys(about["speaker"], about["extractor"], method=about["method"])


def stages_of(keys: Keys) -> tuple[Keys, str, str]:
    """Return the keys of the stages that have rendered and measured a head, and their names."""
    if not keys.extractor:
        return keys, "predictions", "evaluate_predictions"
    method = METHODS[str(keys.method)]
    return replace(keys, method=None), method.render, method.evaluate


def fitness_of(places: Places, key: str, content: dict[str, Any]) -> Fitness | None:
    """Return how fit the footage is, None if that was not measured."""
    if not content:
        return None
    findings = Table("findings", "What is not as it should be", [Column("found"), Column("what to do")])
    findings.rows = [
        [Cell(finding["what"], ok=False if finding["level"] == "unfit" else None), Cell(finding["fix"])]
        for finding in content["findings"]
    ]
    figures = Table("figures", "Figures of the footage", [Column("figure"), Column("value")])
    figures.rows = [[Cell(name), Cell(value)] for name, value in content["figures"]]
    path = places.preview("quality", Keys(speaker=key)) / "strip.jpg"
    words = "Shaded: no face. Lines: cuts. Mouth and sound move together; blinks are spikes."
    return Fitness(content["verdict"], findings, figures, picture_of(path, "The clip over time", words))


def units_table(content: dict[str, Any]) -> Table | None:
    """Return how far each action unit can be trusted."""
    if not content.get("units"):
        return None
    columns = [Column("unit"), Column("what it is"), Column("trust"), Column("measured by"), Column("in this footage")]
    table = Table("units", f"Action units, source {content['source']}", columns)
    for name, origin in sorted(content["units"].items()):
        moves = "" if origin["level"] == "absent" else "moves" if origin["moves"] else "still"
        words = (name, UNIT_WORDS.get(name, ""), origin["level"], origin["source"], moves)
        table.rows.append([Cell(word) for word in words])
    table.notes.append(
        "solid: public maps and two ways of measuring agree; weak: they agree little; absent: always 0; given: as "
        "OpenFace says. Proxies of a coder's work, on each speaker's own scale."
    )
    return table


def facts_of(speaker: Speaker) -> list[tuple[str, str]]:
    """Return on what basis this likeness is shown, and whose it is."""
    facts = [("basis", speaker.basis), ("language", speaker.language or "unstated"), ("gender", speaker.gender)]
    if speaker.consent:
        consent = speaker.consent
        facts += [("consent of", consent.who), ("for", consent.scope), ("until", consent.expiry.isoformat())]
    if speaker.research:
        facts += [("source", speaker.research.source), ("reason", speaker.research.reason)]
    if speaker.note:
        facts.append(("note", speaker.note))
    return facts


def head_of(places: Places, keys: Keys, measured: Measured | None, drives: list[Measured]) -> Head:
    """Collect videos, bars, curves and failures of one head, or of the frames of another system."""
    own, renders, evaluates = stages_of(keys)
    parts = [part for part in (keys.method, keys.extractor) if part]
    head = Head(measured.name if measured else " / ".join([str(keys.speaker), *parts]), str(keys), "/".join(parts))
    folder = places.preview(renders, own)
    words = "On test frames, with their own sound; the difference enlarged by render.difference_gain (4 by default)."
    side = picture_of(folder / "side_by_side.mp4", "Truth, result, difference", words)
    head.videos = [side] if side else alone(places, keys, "Result")
    for video in head.videos:
        video.id = f"{keys}-video"
    if keys.extractor:
        head.drives = drives_of(places, keys, drives)
    if measured:
        add_numbers(head, measured)
        head.frames = frames_of(table_of(places, evaluates, own), places.preview(evaluates, own), measured)
    return head


def alone(places: Places, keys: Keys, name: str) -> list[Picture]:
    """Return the video of a head alone, without the truth beside it, if there is one."""
    own, renders, _ = stages_of(keys)
    video = picture_of(places.preview(renders, own) / "result.mp4", name)
    return [video] if video else []


def drives_of(places: Places, keys: Keys, drives: list[Measured]) -> list[Picture]:
    """Return the videos of what the drives of params.yaml make a head say, with their curves."""
    measured = {replace(keys_of(one), drive=str(one.about["drive"])): one for one in drives}
    method, videos = METHODS[str(keys.method)], []
    for drive in names_listed(places.params, "drives"):
        own = replace(keys, drive=drive)
        path = places.preview(method.render_drive, replace(own, method=None)) / "result.mp4"
        video = picture_of(path, title_of(places, drive), words_of(measured.get(own)))
        if video:
            video.id = f"{own}-video"
            table = table_of(places, method.evaluate_drive, replace(own, method=None))
            if table is not None and own in measured:
                video.curves = curves_of(table, measured[own])
            videos.append(video)
    return videos


def table_of(places: Places, stage: str, keys: Keys) -> Any:
    """Return the table of frames of a stage, None if it is not there."""
    path = places.metrics(stage, keys) / FILE
    return read_per_frame(path) if path.is_file() else None


def add_numbers(head: Head, measured: Measured) -> None:
    """Add bars and the curves of training to a head."""
    head.bars = bars_table([measured], named=False)
    head.missed = [bar["name"] for bar in measured.bars if bar["ok"] is False]
    verdict = bars_cell(measured.bars)
    close = sum(within_noise(bar) for bar in measured.bars)
    head.reached = verdict.text if verdict.ok is None else f"bars reached: {verdict.text}"
    head.reached += f", {close} within noise" if close and verdict.ok is not None else ""
    head.all_reached = verdict.ok
    for phase in measured.curves.get("training", []):
        curves = phase["curves"]
        lines = {name: values for name, values in sorted(curves.items()) if name != "step"}
        if len(lines) == 2:
            lines.pop("loss", None)  # the only term is the total
        # The total first, so that it lies over its parts.
        lines = {name: lines[name] for name in sorted(lines, key=lambda name: (name != "loss", name))}
        steps = curves.get("step", list(range(len(next(iter(lines.values()), [])))))
        chart = line_chart(lines, steps, "step", logarithmic=True)
        if chart:
            head.training.append((phase["phase"], chart))


def title_of(places: Places, drive: str) -> str:
    """Return a drive's name and language, or its key where its record is gone."""
    try:
        record: Drive = load_drive(places, drive)
    except UsageError:
        return drive
    return f"{record.name} ({', '.join(filter(None, (record.language, record.gender, record.basis)))})"


def words_of(measured: Measured | None) -> str:
    """Return one line on how well the lips follow a drive's sound."""
    if measured is None:
        return "not measured"
    words = f"Lips against loudness: {_held(measured, 'r_sound', 'wrong sound')}; opening "
    words += f"{measured.cell('opening', 'face').text} of the speaker's own."
    if measured.find("r_talker", "face", "full") is None:
        return words
    return f"Lips against those of whoever says it: {_held(measured, 'r_talker', 'another moment')}. {words}"


def _held(measured: Measured, metric: str, other: str) -> str:
    """Return a correlation, whether it is within noise, and what it is held against."""
    noise = ", within noise" if metric in measured.about.get("noise", ()) else ""
    return (
        f"r {measured.cell(metric, 'face').text}{noise} ({other} {measured.cell(metric, 'face', 'wrong_sound').text})"
    )


def strips_of(base: Path) -> list[Picture]:
    """Return the pictures of every stage of the preparation, in the order of the graph."""
    pictures = []
    for stage, words in LOOK_FOR.items():
        for path in sorted((base / stage).rglob("*")):
            if path.suffix in (".jpg", ".png"):
                inner = [part for part in path.relative_to(base).with_suffix("").parts if part != "strip"]
                picture = picture_of(path, " / ".join(inner), words)
                if picture:
                    pictures.append(picture)
    return pictures


def picture_of(path: Path, title: str, words: str = "") -> Picture | None:
    """Return a file as an address that holds its bytes, None if it is not there."""
    if not path.is_file():
        return None
    kind = TYPES[path.suffix]
    if path.stat().st_size > LARGEST_VIDEO:
        return Picture(title, "", f"{words} Too large for this page: {path.name}, {path.stat().st_size / 1e6:.0f} MB.")
    source = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    poster = poster_of(path) if path.suffix == ".mp4" else ""
    return Picture(title, source, words, poster)


def poster_of(path: Path) -> str:
    """Return the picture at a third of a video, so that a page that plays nothing shows something."""
    import cv2

    from tasks.media import probe, read_frames_near

    (frame,) = read_frames_near(path, [probe(path).seconds / 3])
    if frame is None:
        return ""
    _, code = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(code.tobytes()).decode()}"


if __name__ == "__main__":
    main(STAGE, run)
