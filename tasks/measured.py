"""What the stages that evaluate have written, and the tables that are made of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import InputError
from tasks.comparable import words_of_drawn
from tasks.scores import TOO_SHORT, VARIANTS
from tasks.tabular import VERDICTS, Cell, Column, Table, number

MAIN = (
    *(("PSNR", "head"), ("PSNR", "mouth"), ("PSNR", "frame"), ("SSIM", "head"), ("SSIM", "mouth")),
    *(("lpips_alex", "frame"), ("perceptual_squeeze", "frame"), ("identity", "face")),
    *(("specks", "head"), ("jitter", "face"), ("flicker", "steady"), ("AUE-L", "face"), ("AUE-U", "face")),
    *(("AUE-L_own", "face"), ("AUE-U_own", "face")),
    *(("LMD", "face"), ("LMD_iod", "face"), ("r_open", "face"), ("amplitude", "face"), ("r_eye", "face")),
    *(("LMD_second", "face"), ("r_open_second", "face"), ("amplitude_second", "face")),
    *(("r_sound", "face"), ("Sync-C", "face"), ("Sync-E", "face"), ("sync_lag", "face")),
    *(("Sync-C_house", "face"), ("Sync-E_house", "face"), ("sync_lag_house", "face")),
    *(("missed_frames", "face"), ("training_time", "all"), ("fps", "all"), ("gaussians", "all"), ("model_size", "all")),
    ("peak_memory", "all"),
)
CONTROLS = (
    *(("PSNR", "head"), ("PSNR", "mouth"), ("SSIM", "mouth"), ("LMD", "face"), ("r_open", "face")),
    *(("amplitude", "face"), ("r_eye", "face"), ("LMD_second", "face"), ("r_open_second", "face")),
    *(("amplitude_second", "face"), ("r_sound", "face"), ("Sync-C", "face"), ("Sync-E", "face")),
    *(("Sync-C_house", "face"), ("Sync-E_house", "face"), ("sync_lag_house", "face")),
    ("missed_frames", "face"),
)
DRIVES = (
    *("r_sound", "sound_lag", "r_talker", "talker_lag"),
    *("opening", "closed_share", "blink_rate", "head_motion", "jitter", "found_share"),
    *("Sync-C", "Sync-E", "sync_lag", "Sync-C_house", "Sync-E_house", "sync_lag_house", "length_error", "render_time"),
)
OF_TALKERS = ("r_talker", "talker_lag")  # they hold a head against whoever says a drive
CONTROLLED = ("r_sound", "r_talker")  # of drives: by the same frames against another moment


@dataclass
class Measured:
    """One metrics file."""

    about: dict[str, Any]
    rows: list[dict[str, Any]]
    bars: list[dict[str, Any]] = field(default_factory=list)
    absent: list[dict[str, str]] = field(default_factory=list)
    definitions: dict[str, str] = field(default_factory=dict)
    curves: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The keys that tell this file from the others."""
        return " / ".join(
            str(self.about[key]) for key in ("speaker", "method", "extractor", "drive") if self.about.get(key)
        )

    def find(self, metric: str, region: str, variant: str) -> dict[str, Any] | None:
        """Return a row, None if it is not there."""
        wanted = (metric, region, variant)
        return next((row for row in self.rows if (row["metric"], row["region"], row["variant"]) == wanted), None)

    def cell(self, metric: str, region: str, variant: str = "full") -> Cell:
        """Return the value of a row, or n/a and why."""
        row = self.find(metric, region, variant)
        if row is not None:
            return Cell(number(row["value"], row["unit"]))
        for entry in self.absent:
            # What is absent on the whole ("all") is so in every region.
            if (entry["metric"], entry["variant"]) == (metric, variant) and entry["region"] in (region, "all"):
                return Cell("n/a", entry["why"])
        nobody = metric in OF_TALKERS and not self.about.get("drive")
        return Cell("–", "nobody else says it" if nobody else "not a matter of this variant")

    def conditions(self) -> str:
        """Return data, split, preset, device and judge in one line."""
        about = self.about
        parts = [
            f"data {about['speaker']} ({about.get('basis', '?')})",
            f"{about.get('split', '?')}, {about.get('seconds', '?')} s",
            f"at {about['size']}" if about.get("size") else "",
            f"preset {about.get('preset') or 'as in params.yaml'}",
            f"device {about.get('device') or 'cpu'}",
            f"landmarks judged by {about.get('judge', '?')}",
            imported_words(about),
            words_of_drawn(about),
            f"sync_house: {about['sync_house']}" if about.get("sync_house") else "",
        ]
        return ", ".join(part for part in parts if part)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: no JSON", str(error), "run the stage that makes it again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: no JSON object", "", "run the stage that makes it again")
    return content


def read_measured(path: Path) -> Measured:
    """Read what evaluate or evaluate_drive wrote, with the curves beside it.

    Raises:
        InputError: it is damaged or another kind of file.
    """
    content = read_json(path)
    if not {"about", "rows"} <= content.keys():
        raise InputError(f"{path}: no metrics of a head", "it has no 'about' and 'rows'")
    curves = path.with_name("curves.json")
    known = {key: content[key] for key in ("about", "rows", "bars", "absent", "definitions") if key in content}
    return Measured(**known, curves=read_json(curves) if curves.is_file() else {})


def main_table(heads: list[Measured]) -> Table:
    """Return one row a head: what it reaches and what it costs."""
    columns = [Column("speaker"), Column("method"), Column("extractor"), Column("bars"), *metric_columns(heads, MAIN)]
    table = Table("main", "Heads on their test frames", columns, notes=conditions_of(heads))
    for head in heads:
        table.rows.append([*_keys(head), bars_cell(head.bars), *(head.cell(metric, region) for metric, region in MAIN)])
    return table


def bars_cell(bars: list[dict[str, Any]]) -> Cell:
    """Return how many of the bars that can be judged a head reaches, or why that cannot be said.

    A bar whose metric or control is absent is no fault of the head.
    """
    if not bars:
        return Cell("none set")
    if any(bar["why"].startswith(TOO_SHORT) for bar in bars):
        return Cell(TOO_SHORT, "with so few test frames a bar is reached or missed by chance")
    judged = [bar["ok"] for bar in bars if bar["ok"] is not None]
    left = len(bars) - len(judged)
    why = "; ".join(f"{bar['name']}: {bar['why']}" for bar in bars if bar["ok"] is None)
    if not judged:
        return Cell("none can be judged", why)
    reached = f"{sum(judged)} of {len(judged)}"
    return Cell(f"{reached}, {left} cannot be judged" if left else reached, why, ok=all(judged))


def bars_table(heads: list[Measured], named: bool = True) -> Table:
    """Return one row for every bar of every head; without the head's name where it is plain whose bars they are."""
    own = ("bar", "verdict", "value", "limit", "95 % interval", "measure")
    columns = [Column(name) for name in ((*("speaker", "method", "extractor"), *own) if named else own)]
    table = Table("bars", "What a head must reach", columns, notes=conditions_of(heads))
    lengths = {f"{head.about.get('block_seconds', 1):g} s" for head in heads}
    if lengths:
        drawn = f"blocks of {' or '.join(sorted(lengths))} of neighbouring frames drawn anew, paired for comparisons"
        table.notes.append(f"Intervals: {drawn}; with few blocks they are rough.")
    for head in heads:
        cells = [bar_cells(bar, head.definitions.get(bar["metric"], "")) for bar in head.bars]
        table.rows += [[*(_keys(head) if named else ()), *row] for row in cells]
    if any(within_noise(bar) for head in heads for bar in head.bars):
        table.notes.append("Within noise: the interval crosses the limit, so other frames might have said otherwise.")
    return table


def bar_cells(bar: dict[str, Any], words: str = "") -> list[Cell]:
    """Return name, verdict, value, limit, interval and measure of a bar, whose metric's definition is `words`."""
    sign = {"value": "", "difference": " minus ", "ratio": " over "}[bar["compare"]]
    against = bar["against"] + (f" ({bar['against_is']})" if bar.get("against_is") else "")
    variant = "" if bar["variant"] == "full" else f" of {bar['variant']}"
    measure = f"{bar['metric']} {bar['region']}{variant}{sign}{against}"
    limit = ("≥", bar["at_least"]) if bar["at_least"] is not None else ("≤", bar["at_most"])
    unit = bar["unit"]
    interval = f"{number(bar['low'], unit)} to {number(bar['high'], unit)}"
    few = "" if bar["low"] is not None else "too few blocks of frames, or a number that is counted"
    verdict = TOO_SHORT if bar["why"].startswith(TOO_SHORT) else VERDICTS[bar["ok"]]
    return [
        Cell(bar["name"]),
        Cell(verdict + (", within noise" if within_noise(bar) else ""), bar["why"], bar["ok"]),
        Cell(_with_unit(bar["value"], unit), bar["why"]),
        Cell(f"{limit[0]} {_with_unit(limit[1], unit)}"),
        Cell(interval) if not few else Cell("n/a", few),
        Cell(measure, words, metric=bar["metric"]),
    ]


def within_noise(bar: dict[str, Any]) -> bool:
    """Return whether a bar's interval crosses its limit, so that other frames might have given the other verdict."""
    limit = bar.get("at_most") if bar.get("at_least") is None else bar["at_least"]
    return bar["ok"] is not None and bar.get("low") is not None and bar["low"] < limit < bar["high"]


def controls_table(heads: list[Measured]) -> Table:
    """Return one row for every head and variant."""
    columns = [
        Column("speaker"),
        Column("method"),
        Column("extractor"),
        Column("variant"),
        *metric_columns(heads, CONTROLS),
    ]
    table = Table("controls", "Heads against controls that do not hear", columns, notes=conditions_of(heads))
    for head in heads:
        present = {row["variant"] for row in head.rows}
        for variant in VARIANTS:
            if variant in present:
                cells = (head.cell(metric, region, variant) for metric, region in CONTROLS)
                table.rows.append([*_keys(head), Cell(variant, VARIANTS[variant]), *cells])
    shown = {row["variant"] for head in heads for row in head.rows}
    table.notes += [f"{variant}: {words}." for variant, words in VARIANTS.items() if variant in shown]
    return table


def drives_table(drives: list[Measured]) -> Table:
    """Return one row for every driven head, language by language, and one for the speaker's own footage."""
    names = [(metric, "face") for metric in DRIVES]
    columns = [
        *(
            Column("speaker"),
            Column("method"),
            Column("extractor"),
            Column("drive"),
            Column("language"),
            Column("gender"),
        ),
        *metric_columns(drives, names),
        *(
            Column(f"{name} of wrong sound", "1", "lower", f"{name} of the same frames half the drive away")
            for name in CONTROLLED
        ),
    ]
    table = Table("drives", "Heads that say something else", columns, notes=conditions_of(drives))
    if drives:
        table.notes.insert(0, f"own footage: {VARIANTS['speaker']}; no head, but what a head would be like at best.")
    shown: set[tuple[str, ...]] = set()
    for measured in drives:
        about, keys = measured.about, tuple(str(measured.about[key]) for key in ("speaker", "method", "extractor"))
        if keys not in shown:
            shown.add(keys)
            own = [Cell("own footage", VARIANTS["speaker"]), Cell(str(about.get("own_language", ""))), Cell("")]
            cells = (measured.cell(metric, region, "speaker") for metric, region in names)
            table.rows.append([*_keys(measured), *own, *cells, *(Cell("") for _ in CONTROLLED)])
        told = [Cell(str(about.get(key, ""))) for key in ("drive", "language", "gender")]
        cells = (measured.cell(metric, region) for metric, region in names)
        wrong = (measured.cell(name, "face", "wrong_sound") for name in CONTROLLED)
        table.rows.append([*_keys(measured), *told, *cells, *wrong])
    return table


def quality_table(rows: list[dict[str, Any]], named: bool = True, title: str = "Quality of the preparation") -> Table:
    """Return the quality of every stage before training; without the speaker's name where it is plain."""
    columns = [Column(name) for name in ("speaker", "stage", "metric", "value", "unit", "bar", "verdict")]
    table = Table("quality", title, columns[not named :])
    for row in rows:
        bar, ok = row.get("bar"), row.get("ok")
        limit = "" if bar is None else f"{ {'higher': '≥ ', 'lower': '≤ '}.get(str(row.get('better')), '') }{bar}"
        value = row.get("value")
        text = f"{value:.4g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        cells = [Cell(str(row.get(key, ""))) for key in ("speaker", "stage")[not named :]]
        cells.append(Cell(str(row.get("metric", "")), str(row.get("definition", ""))))
        absent = Cell("n/a", str(row.get("why", "it was not measured")))
        verdict = Cell("told only") if bar is None and ok is None else Cell(VERDICTS[ok], ok=ok)
        cells += [absent if value is None else Cell(text), Cell(str(row.get("unit", ""))), Cell(limit), verdict]
        table.rows.append(cells)
    table.notes.append("The demo speaker is held against its computed truth, other speakers against themselves.")
    return table


def absent_table(measured: list[Measured], together: bool = False) -> Table:
    """Return what is not measured, and why; `together`: one row for all that is absent for the same reason."""
    table = Table("absent", "Not measured", [Column("metric"), Column("where"), Column("why")])
    told: dict[tuple[str, ...], tuple[dict[str, None], dict[str, None]]] = {}
    for one in measured:
        for entry in one.absent:
            metric, why, place = entry["metric"], entry["why"], f"{one.name}, {entry['variant']}, {entry['region']}"
            metrics, places = told.setdefault((why,) if together else (why, metric, place), ({}, {}))
            metrics[metric] = places[place] = None
    for (why, *_), (metrics, places) in told.items():
        table.rows.append([Cell(", ".join(metrics)), Cell("; ".join(places)), Cell(f"n/a: {why}")])
    return table


def metric_columns(measured: list[Measured], names: Iterable[tuple[str, str]]) -> list[Column]:
    """Return a column for every metric and region, with unit, direction and definition as they were measured."""
    columns = []
    for metric, region in names:
        row = next(
            (row for one in measured for row in one.rows if (row["metric"], row["region"]) == (metric, region)), {}
        )
        words = next((one.definitions[metric] for one in measured if metric in one.definitions), "")
        label = metric if region in ("all", "face") else f"{metric} {region}"
        columns.append(Column(label, row.get("unit", ""), row.get("better", ""), words, metric))
    return columns


def _keys(measured: Measured) -> list[Cell]:
    about = measured.about
    words = imported_words(about)
    method = Cell(f"{about.get('method', '')}{f' ({words})' if words else ''}")
    return [Cell(str(about.get("speaker", ""))), method, Cell(str(about.get("extractor", "")))]


def imported_words(about: dict[str, Any]) -> str:
    """Return how frames of another system were imported; "" for those of a head of ours."""
    told = about.get("imported", {}).get("full")
    return f"imported, {'lossless' if told['lossless'] else 'lossy: ' + told['how']}" if told else ""


def conditions_of(measured: list[Measured]) -> list[str]:
    """Return the conditions of all, those that share them in one line."""
    names: dict[str, list[str]] = {}
    for one in measured:
        names.setdefault(one.conditions(), []).append(one.name)
    return [f"{'; '.join(who)}: {what}" for what, who in names.items()] or ["Nothing has been measured yet."]


def _with_unit(value: float | None, unit: str) -> str:
    text = number(value, unit)
    return text if unit in ("", "1") or value is None else f"{text} {unit}"
