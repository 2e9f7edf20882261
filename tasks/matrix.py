"""Every head against every drive, grouped by language, gender and singing, with intervals over windows and speakers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models.audio.align import FPS
from models.errors import UsageError
from tasks.measured import Measured, read_json, read_measured
from tasks.methods import drives_measured, heads_measured
from tasks.params import Params
from tasks.places import Places
from tasks.stage import Context, Stage, main
from tasks.tabular import Cell, Column, Footnotes, Table, number
from tasks.windows import REGION, read_windows

if TYPE_CHECKING:
    from models.metrics.base import Metric

FOLDER, FILE = "data/matrix", "matrix.json"
METRICS = (
    *("Sync-C", "Sync-E", "sync_lag", "Sync-C_house", "Sync-E_house", "sync_lag_house"),
    *("r_sound", "sound_lag", "r_talker", "talker_lag", "jitter"),
)
LAGS = ("sync_lag", "sync_lag_house", "sound_lag", "talker_lag")
"""Of these groups show the mean size: a lag of 4 and one of -4 are not none."""
OWN = "own sound"
AGAINST: dict[str, tuple[str, ...]] = {  # the first of them that was measured
    OWN: (),
    "same language": (OWN,),
    "cross-language": ("same language", OWN),
    "same gender": (OWN,),
    "cross-gender": ("same gender", OWN),
    "singing": ("same language", OWN),
}
HEAD = ("speaker", "method", "extractor")
# Variants: the head itself, the same frames against the sound of another moment, and the speaker's real footage.
OF_TEST = ("full", "wrong_audio", "truth")
OF_DRIVE = ("full", "wrong_sound", "speaker")
NOISE = "within noise"


class MatrixParams(Params):
    """Section `matrix`."""

    block_seconds: float = Field(1.0, gt=0)  # frames drawn together for an interval
    draws: int = Field(300, ge=100)


STAGE = Stage(
    name="matrix",
    per=(),
    params=MatrixParams,
    folder=FOLDER,
    lists=("speakers", "extractors", "drives", "gaussian_talkers"),
)


def run(context: Context[MatrixParams]) -> None:
    """Read data/metrics and write data/matrix: one JSON file, and two tables in three forms."""
    from models.metrics import all_metrics

    params = context.params
    metrics = {name: all_metrics()[name] for name in METRICS}
    cells: list[dict[str, Any]] = []
    drawn: list[dict[str, np.ndarray]] = []
    files = sorted([*heads_measured(context.places), *drives_measured(context.places)])
    measured = [read_measured(path) for path in files]
    for path, one in zip(files, measured, strict=True):
        values, draws = values_of(path.parent, one, metrics, params)
        keys = {key: str(one.about[key]) for key in HEAD}
        about = {"drive": drive_of(one), "seconds": one.about.get("seconds"), "groups": groups_of(one.about)}
        cells.append({**keys, **about, "values": values})
        drawn.append(draws)
    content = {
        "about": {
            "block_seconds": params.block_seconds,
            "draws": params.draws,
            "sync_house": told_of_sync_house(measured),
        },
        "metrics": {
            name: {"unit": metric.unit, "better": metric.better, "words": words_of(name, metric, measured)}
            for name, metric in metrics.items()
        },
        "heads": heads_of(measured),
        "drives": drives_of(measured),
        "cells": cells,
        "groups": compare_groups(cells, drawn, params.draws),
    }
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (context.output / FILE).write_text(text + "\n", encoding="utf-8")
    for table in tables_of(content):
        (context.output / f"{table.name}.csv").write_text(table.as_csv(), encoding="utf-8")
        (context.output / f"{table.name}.md").write_text(table.as_markdown(), encoding="utf-8")
        (context.output / f"{table.name}.html").write_text(table.as_page(), encoding="utf-8")


def read_matrix(places: Places) -> dict[str, Any]:
    """Return what the stage has written.

    Raises:
        UsageError: it has not been run.
        InputError: the file is damaged.
    """
    path = places.root / FOLDER / FILE
    if not path.is_file():
        raise UsageError("there is no matrix yet", f"{path} does not exist", "gausstalk run   (or dvc repro matrix)")
    return read_json(path)


def groups_of(about: dict[str, Any]) -> list[str]:
    """Return the groups that a head's own sound, or a drive, belongs to; what is not stated belongs to none."""
    if not about.get("drive"):
        return [OWN]
    if about.get("kind", "speech") == "singing":
        return ["singing"]
    groups = []
    language, own = about.get("language"), about.get("own_language")
    if language and own:
        groups.append("same language" if language == own else "cross-language")
    gender, own = about.get("gender"), about.get("own_gender")
    if {gender, own} <= {"female", "male"}:
        groups.append("same gender" if gender == own else "cross-gender")
    return groups


def drive_of(measured: Measured) -> str:
    """Return the name of a drive, "" for a head's own sound."""
    return str(measured.about.get("drive", ""))


def told_of_sync_house(measured: Iterable[Measured]) -> str:
    """Return how far the network can be trusted, and whose numbers are of another one: such cannot be compared."""
    words: dict[str, str] = {}
    speakers: dict[str, list[str]] = {}
    for one in measured:
        if "sync_house" in one.about:
            network = str(one.about.get("taught", {}).get("sync_house", ""))
            words[network] = str(one.about["sync_house"])
            speakers.setdefault(network, []).append(str(one.about["speaker"]))
    if len(words) < 2:
        return next(iter(words.values()), "")
    each = [f"{', '.join(dict.fromkeys(speakers[network]))}: {told}" for network, told in words.items()]
    return (
        f"{len(words)} NETWORKS, whose numbers must not be compared ({'; '.join(each)}); "
        "`gausstalk run` without a name measures all by the newest"
    )


def heads_of(measured: Iterable[Measured]) -> list[dict[str, str]]:
    """Return every head once."""
    heads: dict[tuple[str, ...], dict[str, str]] = {}
    for one in measured:
        head = {key: str(one.about[key]) for key in HEAD}
        told = {"language": str(one.about.get("own_language", "")), "gender": str(one.about.get("own_gender", ""))}
        heads[tuple(head.values())] = {**head, **told}
    return list(heads.values())


def drives_of(measured: Iterable[Measured]) -> list[dict[str, str]]:
    """Return the heads' own sound, then every drive once, in the order of languages and names."""
    own = {"drive": "", "name": OWN, "language": "", "gender": "", "kind": "speech", "source": "test frames"}
    drives = {}
    for one in measured:
        if drive := drive_of(one):
            told = {key: str(one.about.get(key, "")) for key in ("language", "gender", "kind", "name")}
            source = ": ".join(filter(None, (str(one.about.get("basis", "")), str(one.about.get("source", "")))))
            drives[drive] = {"drive": drive, **told, "source": source}
    return [
        own,
        *sorted(drives.values(), key=lambda told: (told["kind"] == "singing", told["language"], told["drive"])),
    ]


def words_of(name: str, metric: Metric, measured: Iterable[Measured]) -> str:
    """Return the definition as it was measured by, or the general one."""
    return next((one.definitions[name] for one in measured if name in one.definitions), metric.words)


def values_of(
    folder: Path, measured: Measured, metrics: dict[str, Metric], params: MatrixParams
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """Return of every metric the value with its interval beside those of the controls, and its draws `[draws]`."""
    windows, seed = read_windows(folder), seed_of(measured)
    full, wrong, own = OF_DRIVE if drive_of(measured) else OF_TEST
    values, draws = {}, {}
    for name, metric in metrics.items():
        row = measured.find(name, REGION, full)
        value = None if row is None else float(row["value"])
        shown = windows.get((name, full))
        drawn = drawn_values(metric, shown, params, seed)
        low, high = interval(drawn)
        values[name] = {
            "value": value,
            "low": low,
            "high": high,
            "wrong": _value(measured, name, wrong),
            "own": _value(measured, name, own),
            "noise": is_noise(metric, shown, windows.get((name, wrong)), params, seed),
            "why": "" if value is not None else measured.cell(name, REGION, full).why,
        }
        if value is not None and len(drawn):
            draws[name] = drawn
    return values, draws


def _value(measured: Measured, metric: str, variant: str) -> float | None:
    row = measured.find(metric, REGION, variant)
    return None if row is None else float(row["value"])


def seed_of(measured: Measured) -> int:
    """Return a seed that is the same in every run, and another one for every head and drive.

    One seed for all would draw the same moments of each, and a mean over cells would vary with them as one cell does.
    """
    name = "/".join([*(str(measured.about[key]) for key in HEAD), drive_of(measured)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def is_noise(
    metric: Metric, shown: np.ndarray | None, wrong: np.ndarray | None, params: MatrixParams, seed: int
) -> bool | None:
    """Return whether chance explains that the lips `shown` are better than with the wrong sound; None: not known.

    Both are of the same frames, which are drawn together, so that hard moments are hard for both.
    """
    from models.metrics.base import in_common

    if metric.better not in ("higher", "lower") or shown is None or wrong is None or shown.shape != wrong.shape:
        return None
    values = (drawn_values(metric, columns, params, seed) for columns in in_common(shown, wrong))
    gained = [metric.merit(value) - metric.merit(other) for value, other in zip(*values, strict=True)]
    low, _ = interval(np.array(gained))
    return None if low is None else low <= 0


def drawn_values(metric: Metric, columns: np.ndarray | None, params: MatrixParams, seed: int) -> np.ndarray:
    """Return the value of a metric `[draws]` with whole blocks of windows drawn anew; empty with too few blocks."""
    from models.metrics.base import block_draws, blocks_of

    if columns is None:
        return np.zeros(0)
    known = np.flatnonzero(~np.isnan(columns).all(1))
    blocks = [known[block] for block in blocks_of(known, max(1, round(params.block_seconds * FPS)))]
    return block_draws(lambda positions: metric.summary(columns[positions]), blocks, params.draws, seed)


def interval(draws: np.ndarray) -> tuple[float | None, float | None]:
    """Return the 95 % interval of draws, rounded; None where there are none."""
    from models.metrics.base import interval_of

    low, high = (round(end, 6) for end in interval_of(draws))
    return (None, None) if np.isnan(low) else (low, high)


def overlap(one: Sequence[float | None], other: Sequence[float | None]) -> bool | None:
    """Return whether two intervals overlap; None where one of them is not known."""
    (low, high), (other_low, other_high) = one, other
    if low is None or high is None or other_low is None or other_high is None:
        return None
    return low <= other_high and other_low <= high


def compare_groups(
    cells: Sequence[dict[str, Any]], drawn: Sequence[dict[str, np.ndarray]], draws: int
) -> list[dict[str, Any]]:
    """Return the mean of every group over speakers, with its interval, beside that of the group it is held against.

    A draw takes as many speakers as there are, some of them repeatedly, and of each cell its own draw of windows: the
    interval holds what another choice of speakers and of moments would have changed.
    """
    from models.metrics import all_metrics

    results = []
    for method, extractor in dict.fromkeys((cell["method"], cell["extractor"]) for cell in cells):
        for metric in METRICS:
            means = {}
            for group in AGAINST:
                own = [
                    (cell["speaker"], cell["values"][metric]["value"], draw.get(metric))
                    for cell, draw in zip(cells, drawn, strict=True)
                    if (cell["method"], cell["extractor"]) == (method, extractor)
                    and group in cell["groups"]
                    and cell["values"][metric]["value"] is not None
                ]
                if metric in LAGS:
                    own = [(speaker, abs(value), None if draw is None else abs(draw)) for speaker, value, draw in own]
                if own:
                    means[group] = group_mean(own, draws)
            for group, mean in means.items():
                against = next((name for name in AGAINST[group] if name in means), "")
                other = means.get(against, {"value": None, "low": None, "high": None})
                results.append(
                    {
                        **{"group": group, "against": against},
                        **{"metric": metric, "method": method, "extractor": extractor, **mean},
                        "unit": "frames off" if metric in LAGS else all_metrics()[metric].unit,
                        **{"other": other["value"], "other_low": other["low"], "other_high": other["high"]},
                        "noise": overlap((mean["low"], mean["high"]), (other["low"], other["high"])),
                    }
                )
    return results


def group_mean(cells: Sequence[tuple[str, float, np.ndarray | None]], draws: int) -> dict[str, Any]:
    """Return the mean over speakers of the mean over their cells of (speaker, value, draws), and its interval."""
    of_speakers: dict[str, list[tuple[float, np.ndarray | None]]] = {}
    for speaker, value, own in cells:
        of_speakers.setdefault(speaker, []).append((value, own))
    mean = float(np.mean([np.mean([value for value, _ in own]) for own in of_speakers.values()]))
    why = "" if len(of_speakers) > 1 else "one speaker: the interval is of windows alone"
    drawn = [[draw for _, draw in own if draw is not None] for own in of_speakers.values()]
    if sum(map(len, drawn)) < len(cells):
        low, high, why = None, None, "a cell is too short for an interval"
    else:
        means = np.stack([np.mean(own, 0) for own in drawn])
        chosen = np.random.default_rng(0).integers(0, len(means), (len(means), draws))
        low, high = interval(means[chosen, np.arange(draws)].mean(0))
    return {
        **{"speakers": len(of_speakers), "cells": len(cells)},
        **{"value": round(mean, 6), "low": low, "high": high, "why": why},
    }


def tables_of(content: dict[str, Any]) -> list[Table]:
    """Return the matrix, a row for every head and drive, and the groups."""
    metrics, reasons = content["metrics"], Footnotes()
    columns = [Column(name, told["unit"], told["better"], told["words"], name) for name, told in metrics.items()]
    told = {drive["drive"]: drive for drive in content["drives"]}
    speakers = {head["speaker"]: head for head in content["heads"]}
    keys = ("speaker", "method", "extractor", "drive", "language", "gender", "source", "group")
    matrix = Table("matrix", "Every head and every drive", [*(Column(key) for key in keys), *columns])
    for cell in content["cells"]:
        drive = told[cell["drive"]]
        names = [*(cell[key] for key in HEAD), drive["drive"] or OWN]
        voice = drive if drive["drive"] else speakers[cell["speaker"]]
        names += [voice["language"], voice["gender"], drive["source"], ", ".join(cell["groups"])]
        values = [value_cell(cell["values"][name], one["unit"], reasons) for name, one in metrics.items()]
        matrix.rows.append([*map(Cell, names), *values])
    about = content["about"]
    drawn = f"{about['draws']} draws of blocks of {about['block_seconds']:g} s of neighbouring frames"
    matrix.notes = [
        f"In brackets 95 % intervals, {drawn}; {NOISE}: the 95 % interval of the "
        "gain over the same frames with the wrong sound, drawn alike, holds zero or less."
    ]
    if about["sync_house"]:
        matrix.notes.append(f"sync_house: {about['sync_house']}.")
    matrix.notes += reasons.notes()
    groups = Table("groups", "Same language, other language, other gender, singing", [])
    groups.columns = [
        Column(name)
        for name in ("group", "metric", "method", "extractor", "speakers", "drives", "value", "held against", "note")
    ]
    for group in content["groups"]:
        unit = group["unit"]
        other = {"value": group["other"], "low": group["other_low"], "high": group["other_high"]}
        other |= {"noise": None, "why": ""}
        against = (
            f"{group['against']}: {value_cell({**other, 'why': ''}, unit, reasons).text}" if group["against"] else ""
        )
        note = "; ".join(filter(None, (NOISE if group["noise"] else "", group["why"])))
        names = (*(group[key] for key in ("group", "metric", "method", "extractor", "speakers", "cells")),)
        value = value_cell({**group, "noise": None}, unit, reasons)
        groups.rows.append([*(Cell(str(name)) for name in names), value, Cell(against), Cell(note)])
    groups.notes = [
        f"Means over speakers of their drives; intervals: {drawn}, and of speakers; {NOISE}: both intervals overlap. "
        "A drive can be of another language and of another gender at once. Of lags: how many frames off, either way."
    ]
    return [matrix, groups]


def value_cell(value: dict[str, Any], unit: str, reasons: Footnotes) -> Cell:
    """Return a value with its interval and its note, or a pointer to the reason why there is none."""
    if value["value"] is None:
        return reasons.cell(value["why"])
    text = number(value["value"], unit)
    if value["low"] is not None:
        text += f" [{number(value['low'], unit)}, {number(value['high'], unit)}]"
    return Cell(f"{text} {NOISE}" if value["noise"] else text)


if __name__ == "__main__":
    main(STAGE, run)
