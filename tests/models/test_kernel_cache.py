"""Numba keeps compiled kernels and only looks at their own file for changes.

What a kernel's file takes from other modules is compiled into it. So the file states a digest of that: whoever changes
a number elsewhere is told here to change the digest, and that edit makes Numba compile the kernels anew, at home and
wherever the change is pulled.
"""

import ast
import hashlib
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = [path for path in sorted((ROOT / "models").rglob("*.py")) if "@njit" in path.read_text()]


def taken_from_elsewhere(tree):
    """Names that a module imports from the project, and those that it makes of them."""
    names = set()
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("models"):
            names |= {alias.asname or alias.name for alias in statement.names}
        if isinstance(statement, ast.Assign):
            used = {node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)}
            if used & names:
                names |= {
                    node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)
                }
    return names


def describe(value):
    if isinstance(value, bool | int | float | np.generic):
        return f"{float(value):.6g}"  # not to the last bit: some are computed
    if isinstance(value, dict):
        return str(sorted((key, sorted(item) if isinstance(item, set) else item) for key, item in value.items()))
    if hasattr(value, "py_func"):
        return inspect.getsource(value.py_func)
    return None


def digest_of(path):
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    described = {name: describe(getattr(module, name)) for name in taken_from_elsewhere(ast.parse(path.read_text()))}
    taken = sorted((name, text) for name, text in described.items() if text is not None)
    return (hashlib.sha256(repr(taken).encode()).hexdigest()[:12] if taken else None), module


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: str(path.relative_to(ROOT)))
def test_kernels_state_what_they_are_compiled_with(path):
    digest, module = digest_of(path)
    stated = getattr(module, "_COMPILED_WITH", None)
    assert stated == digest, f'numbers that {path.name} takes from other modules changed: _COMPILED_WITH = "{digest}"'


def test_kernels_are_found():
    assert {path.parent.name for path in KERNELS} >= {"rasterize", "hashgrid", "ssim", "gaussians"}
    names = taken_from_elsewhere(ast.parse("from models.a import b, c as d\nfrom x import y\ne, f = b + 1, 2\ng = y\n"))
    assert names == {"b", "d", "e", "f"}
    assert describe(np.float32(0.1)) == describe(0.1) != describe(0.10001)
