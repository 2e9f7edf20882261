"""Which modules of this project a module imports, directly or not: the code that a stage depends on."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGES = ("models", "tasks", "flows")


def module_path(root: Path, module: str) -> Path | None:
    """Return the file of a dotted module of this project, or None."""
    base = root.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def imported_modules(path: Path, root: Path) -> frozenset[Path]:
    """Return the files of this project that `path` imports anywhere in its text, lazily or not."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            if path.name == "__init__.py" and "importlib" in names:
                # A package that imports by name loads whatever lies in its folder.
                found.update(path.parent.glob("*.py"))
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] not in PACKAGES:
                continue
            parts = name.split(".")
            for count in range(1, len(parts) + 1):
                file = module_path(root, ".".join(parts[:count]))
                if file is not None:
                    found.add(file)
    return frozenset(found)


def closure(path: Path, root: Path) -> list[Path]:
    """Return `path` and every file of this project that it reaches, sorted, empty package files left out."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(imported_modules(current, root) - seen)
    return sorted(file for file in seen if file == path or file.name != "__init__.py" or _has_code(file))


def folded(files: list[Path], root: Path) -> list[Path]:
    """Return `files`, the ones of a package that most of is among them replaced by its folder, sorted.

    A whole folder is easier to read than its files; what little of it a stage does not import may then rerun the stage.
    """
    left, folders = set(files), []
    inits = [path for package in PACKAGES for path in (root / package).glob("*/**/__init__.py")]
    for folder in sorted(path.parent for path in inits):  # an outer package before those within it
        counted = {path for path in folder.rglob("*.py") if path.name != "__init__.py" or _has_code(path)}
        if 2 * len(counted & left) > len(counted):
            folders.append(folder)
            left -= counted
    return sorted([*folders, *left])


def _has_code(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)
