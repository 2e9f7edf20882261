"""Speech features. Every module of this folder that has an `extract` is an extractor, named after its file.

An extractor module has:

* `REVISION: str`, changed whenever its numbers change;
* `ASSET: str | None`, the entry of data/assets.toml that holds its weights;
* `extract(sound, frame_count, window, weights) -> values`, from int16 samples `[S]` at 16 kHz (and the path of the
  weights, None if there are none) to float32 `[frame_count, D, window]`, entry t centred on the instant t / 25 s.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from models.errors import UsageError

NO_EXTRACTORS = {"__init__", "align"}


def names() -> list[str]:
    """Return the names of all extractors."""
    return sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - NO_EXTRACTORS)


def extractor(name: str) -> ModuleType:
    """Return the module of an extractor.

    Raises:
        UsageError: there is none of that name; the message lists those that are there.
    """
    if name not in names():
        raise UsageError(
            f"no audio extractor {name!r}", f"known: {', '.join(names())}", "correct 'extractors' in params.yaml"
        )
    return importlib.import_module(f"models.audio.{name}")
