"""Keeps the code that every stage of dvc.yaml depends on in step with what the stage imports.

Edits the text between a line `# code` and the bracket that ends the list, so that everything written by hand stays.
"""

from __future__ import annotations

import os
import re
import textwrap
from pathlib import Path

from models.errors import UsageError
from tasks.closure import closure, folded
from tasks.places import Places

MARK = "# code"
STAGE = re.compile(r"^  ([a-z0-9_]+):\s*$")
DEPS = re.compile(r"^(\s+)deps: \[\s*(\])?\s*$")
COMMENT = re.compile(r"\s*(^|\s)#.*|\s+$")
WIDTH = 120


def code_of(root: Path, stage: str) -> list[str]:
    """Return the files and packages that the stage's module reaches, as dvc.yaml writes them.

    Raises:
        UsageError: the stage has no module.
    """
    path = root / "tasks" / f"{stage}.py"
    if not path.is_file():
        raise UsageError(
            f"stage {stage!r} of dvc.yaml has no tasks/{stage}.py", "stage, file and params section share one name"
        )
    return [file.relative_to(root).as_posix() for file in folded(closure(path, root), root)]


def with_code(text: str, root: Path) -> str:
    """Return the text of dvc.yaml with every stage's code as its module imports it now.

    Raises:
        UsageError: a stage has no module or no list `deps: [...]`.
    """
    lines = text.splitlines()
    starts = [(number, match.group(1)) for number, line in enumerate(lines) if (match := STAGE.match(line))]
    result = lines[: starts[0][0]] if starts else lines
    for position, (start, stage) in enumerate(starts):
        end = starts[position + 1][0] if position + 1 < len(starts) else len(lines)
        result += _stage_with_code(stage, lines[start:end], code_of(root, stage))
    return "\n".join(result) + "\n"


def _stage_with_code(stage: str, lines: list[str], code: list[str]) -> list[str]:
    start, end, indent = _find_list(stage, lines)
    own = lines[start + 1 : end]
    mark = f"{indent}  {MARK}"
    if mark in own:
        own = own[: own.index(mark)]
    for line in own:
        if COMMENT.sub("", line) and not COMMENT.sub("", line).endswith(","):
            raise UsageError(f"dvc.yaml: no comma ends {line.strip()!r}", f"in the list deps of stage {stage!r}")
    listed = textwrap.wrap(f"{', '.join(code)},", WIDTH - len(indent) - 2, break_on_hyphens=False)
    return [
        *lines[:start],
        f"{indent}deps: [",
        *own,
        mark,
        *(f"{indent}  {line}" for line in listed),
        f"{indent}]",
        *lines[end + 1 :],
    ]


def _find_list(stage: str, lines: list[str]) -> tuple[int, int, str]:
    """Return the positions of the first and last line of the stage's list `deps`, and how far it is indented."""
    for start, line in enumerate(lines):
        if match := DEPS.match(line):
            if match.group(2):
                return start, start, match.group(1)
            if f"{match.group(1)}]" in lines[start:]:
                return start, lines.index(f"{match.group(1)}]", start), match.group(1)
    raise UsageError(
        f"dvc.yaml: stage {stage!r} has no list 'deps: [' with an item a line and ']' alone on the last",
        fix="write 'deps: []' where nothing but code is needed",
    )


def check(places: Places) -> list[str]:
    """Return the stages whose code in dvc.yaml is not what they import."""
    old = (places.root / "dvc.yaml").read_text(encoding="utf-8")
    new = with_code(old, places.root)
    return [name for name in _blocks(new) if _blocks(new)[name] != _blocks(old).get(name)]


def write(places: Places) -> list[str]:
    """Bring dvc.yaml up to date and return the stages that changed."""
    changed = check(places)
    path = places.root / "dvc.yaml"
    if changed:
        draft = path.with_name(f".dvc.yaml.new-{os.getpid()}")
        draft.write_text(with_code(path.read_text(encoding="utf-8"), places.root), encoding="utf-8")
        os.replace(draft, path)
    return changed


def _blocks(text: str) -> dict[str, list[str]]:
    blocks: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        match = STAGE.match(line)
        if match:
            current = blocks.setdefault(match.group(1), [])
        current.append(line)
    return blocks
