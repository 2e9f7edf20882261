"""Keeps the code that every stage of dvc.yaml depends on in step with what the stage imports.

Edits the text between a line `# code` and the end of the list, so that everything written by hand stays as it is.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from models.errors import UsageError
from tasks.closure import closure
from tasks.places import Places

MARK = "# code"
STAGE = re.compile(r"^  ([a-z0-9_]+):\s*$")
DEPS = re.compile(r"^(\s+)deps:\s*(\[\s*\])?\s*$")


def code_of(root: Path, stage: str) -> list[str]:
    """Return the files that the stage's module reaches, as dvc.yaml writes them.

    Raises:
        UsageError: the stage has no module.
    """
    path = root / "tasks" / f"{stage}.py"
    if not path.is_file():
        raise UsageError(
            f"stage {stage!r} of dvc.yaml has no tasks/{stage}.py", "stage, file and params section share one name"
        )
    return [file.relative_to(root).as_posix() for file in closure(path, root)]


def with_code(text: str, root: Path) -> str:
    """Return the text of dvc.yaml with every stage's code as its module imports it now.

    Raises:
        UsageError: a stage has no module or no `deps:` list.
    """
    lines = text.splitlines()
    starts = [(number, match.group(1)) for number, line in enumerate(lines) if (match := STAGE.match(line))]
    result = lines[: starts[0][0]] if starts else lines
    for position, (start, stage) in enumerate(starts):
        end = starts[position + 1][0] if position + 1 < len(starts) else len(lines)
        result += _stage_with_code(stage, lines[start:end], code_of(root, stage))
    return "\n".join(result) + "\n"


def _stage_with_code(stage: str, lines: list[str], code: list[str]) -> list[str]:
    found = [(number, match.group(1)) for number, line in enumerate(lines) if (match := DEPS.match(line))]
    if not found:
        raise UsageError(f"dvc.yaml: stage {stage!r} has no list 'deps:' that stands alone on its line")
    number, indent = found[0]
    end = number + 1
    while end < len(lines) and re.match(rf"{indent}(- |{MARK})", lines[end]):
        end += 1
    own = lines[number + 1 : end]
    marked = f"{indent}{MARK}"
    if marked in own:
        own = own[: own.index(marked)]
    return [
        *lines[:number],
        f"{indent}deps:",
        *own,
        marked,
        *(f"{indent}- {file}" for file in code),
        *lines[end:],
    ]


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
