"""Where everything lies. The only module that knows the folder names."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from dataclasses import dataclass, fields
from pathlib import Path

from models.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,47}")
NO_TEXT = re.compile(r"yes|no|on|off|true|false|null|0b[01_]+|0o[0-7_]+|0x[0-9a-f_]+|[0-9][0-9_]*(e[0-9]+)?")
"""What YAML, 1.1 or 1.2, takes for something else than text: params.yaml would not list what was written there."""
VARIANTS = "variants"
RESERVED = {"drives", "speakers", "project"}
GATHERED = ("mouths",)  # stages whose records of all speakers lie side by side, for a stage that reads all of them


def check_name(name: str, what: str = "speaker", there: bool = False) -> str:
    """Return `name` if it can be a folder, a DVC item, a Prefect name and an entry of params.yaml.

    Args:
        name: to be looked at.
        what: it is to name.
        there: something is called so already, and goes by that name even if YAML takes it for a number.

    Raises:
        UsageError: otherwise; the message states the rule.
    """
    if not NAME.fullmatch(name) or name in RESERVED or (NO_TEXT.fullmatch(name) and not there):
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
        close = re.sub("[^a-z0-9_]", "_", plain).strip("_")[:47] or "alice"
        close = f"{close}1" if close in RESERVED else f"{what}_{close}"[:48] if NO_TEXT.fullmatch(close) else close
        raise UsageError(
            f"{shown!r} cannot name a {what}",
            "names are 1 to 48 of a-z, 0-9 and _, start with a letter or digit, are not 'drives', 'speakers' or "
            "'project', and nothing that YAML takes for a number, a yes or a no",
            f"choose another name, for example {close!r}",
        )
    return name


@dataclass(frozen=True)
class Keys:
    """Which item of a stage is meant; a key that the stage does not have is None."""

    speaker: str | None = None
    extractor: str | None = None
    drive: str | None = None
    method: str | None = None  # another system, whose frames were imported

    def __str__(self) -> str:
        return "-".join(key for key in (self.speaker, self.extractor, self.drive, self.method) if key)


def keys_of(command: str) -> Keys:
    """Return the keys that a stage's command line names.

    The command is the contract; DVC's item names join their parts with '-' and cannot be taken apart safely.
    """
    words = shlex.split(command)
    options = {f"--{part.name}": part.name for part in fields(Keys)}
    return Keys(**{options[word]: words[position + 1] for position, word in enumerate(words[:-1]) if word in options})


@dataclass(frozen=True)
class Places:
    """Folders of a project rooted at `root`."""

    root: Path

    @staticmethod
    def here() -> Places:
        """Return the project that the process stands in ($GAUSSTALK_ROOT or the working directory)."""
        return Places(Path(os.environ.get("GAUSSTALK_ROOT", ".")).resolve())

    @property
    def params(self) -> Path:
        """params.yaml."""
        return self.root / "params.yaml"

    def _item(self, base: str, stage: str, keys: Keys) -> Path:
        if stage in GATHERED:
            return self.root / "data" / base / "project" / stage / str(keys.speaker)
        owner = self.root / "data" / base / (keys.speaker or (f"drives/{keys.drive}" if keys.drive else "project"))
        tail = [key for key in (keys.extractor, keys.drive if keys.speaker else None, keys.method) if key]
        return owner.joinpath(stage, *tail)

    def record(self, stage: str, keys: Keys) -> Path:
        """Folder of the record that a stage gives: data/work/<speaker>/<stage>[/<extractor>][/<drive>].

        Without a speaker: data/work/drives/<drive>/<stage> or data/work/project/<stage>; of the stages `GATHERED`:
        data/work/project/<stage>/<speaker>.
        """
        return self._item("work", stage, keys)

    def preview(self, stage: str, keys: Keys) -> Path:
        """Folder of what a person looks at: data/preview/<speaker>/<stage>[/<extractor>][/<drive>]."""
        return self._item("preview", stage, keys)

    def metrics(self, stage: str, keys: Keys) -> Path:
        """Folder of metric rows: data/metrics/<speaker>/<stage>[/<extractor>][/<drive>]."""
        return self._item("metrics", stage, keys)

    def variants(self, speaker: str) -> Path:
        """Folder of what was measured of variants of a head, kept beside the stages' own: data/metrics/<speaker>/..."""
        return self.root / "data" / "metrics" / speaker / VARIANTS

    def scratch(self, stage: str, keys: Keys, key: str) -> Path:
        """Folder of checkpoints, which outlive a killed stage."""
        return self.root / ".work" / stage / (str(keys) or "project") / key

    def raw_speaker(self, speaker: str) -> Path:
        """Folder of a speaker's source files, never changed."""
        return self.root / "data" / "raw" / "speakers" / speaker

    def raw_drive(self, drive: str) -> Path:
        """Folder of a drive's source file, never changed."""
        return self.root / "data" / "raw" / "drives" / drive

    def raw_predictions(self, speaker: str, method: str) -> Path:
        """Folder of the frames of another system, never changed."""
        return self.root / "data" / "raw" / "predictions" / speaker / method

    def predictions_record(self, speaker: str, method: str) -> Path:
        """data/predictions/<speaker>/<method>.yaml."""
        return self.root / "data" / "predictions" / speaker / f"{method}.yaml"

    def speaker_record(self, speaker: str) -> Path:
        """data/speakers/<id>.yaml."""
        return self.root / "data" / "speakers" / f"{speaker}.yaml"

    def drive_record(self, drive: str) -> Path:
        """data/drives/<id>.yaml."""
        return self.root / "data" / "drives" / f"{drive}.yaml"
