"""What every metric says of every frame, in one table: what curves and galleries are made of.

A row is of one metric, region, variant and frame, with the keys of `tasks.scores`. `value` is the frame's own;
`against` is what it is held against where a metric needs both (the lip gap of the truth or of a drive's talker, the
loudness of the sound), else NaN. Frames that a metric does not tell are NaN; a metric that tells none has no rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.errors import InputError
from tasks.scores import Scores

if TYPE_CHECKING:
    from pandas import DataFrame

FILE = "per_frame.parquet"
KEYS = ("speaker", "method", "extractor", "split", "drive", "metric", "region", "variant")
COLUMNS = (*KEYS, "frame", "time", "value", "against")


def write_per_frame(
    folder: Path,
    scores: Scores,
    frames: np.ndarray,
    fps: float,
    others: Mapping[tuple[str, str], np.ndarray] | None = None,
) -> None:
    """Write the series of all metrics.

    Args:
        folder: of the stage's metrics.
        scores: with series.
        frames: `[n]` the indices of the frames measured; their time is index / fps.
        fps: of the clip or the drive.
        others: frames of a metric and variant that were measured on others.
    """
    import pandas

    tables = []
    for (metric, region, variant), series in scores.series.items():
        if np.isnan(series).all():
            continue
        measured = (others or {}).get((metric, variant), frames)
        keys = {**scores.keys, "metric": metric, "region": region, "variant": variant}
        table = {name: [keys[name]] * len(measured) for name in KEYS}
        columns = {"frame": measured.astype(np.int32), "time": measured / fps, "value": series[:, 0]}
        against = series[:, 1] if series.shape[1] > 1 else np.full(len(series), np.nan)
        tables.append(pandas.DataFrame({**table, **columns, "against": against}))
    whole = pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame(columns=list(COLUMNS))
    whole.to_parquet(folder / FILE, index=False)


def read_per_frame(path: Path) -> DataFrame:
    """Read what `write_per_frame` has written.

    Raises:
        InputError: it is damaged or another table.
    """
    import pandas

    fix = "run the stage that makes it again"
    try:
        table = pandas.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no parquet", str(error), fix) from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"{path}: no table of frames", f"it has no column {', '.join(missing)}", fix)
    return table
