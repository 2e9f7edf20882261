"""What a user is told of kernels being compiled, and that they run wherever the package is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import kernels

PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from tasks.kernels import watch
compilations = watch()
from models.tiny import triple
assert triple(2.0) == 6.0
assert watch() is compilations
print("compiled", compilations.count)
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An installation with one small kernel."""
    for name in ("models", "tasks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    shutil.copy(kernels.__file__, tmp_path / "tasks" / "kernels.py")
    (tmp_path / "models" / "tiny.py").write_text(
        "from numba import njit\n\n\n@njit(cache=True)\ndef triple(x):\n    return 3 * x\n"
    )
    (tmp_path / "tmp").mkdir()
    return tmp_path


def forbid(folder: Path) -> None:
    """Let nobody, not even root, make this folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.touch()


def use(installed: Path) -> list[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(installed / "home"),
        "TMPDIR": str(installed / "tmp"),
    }
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_first_run_says_that_it_compiles_and_the_second_does_not(installed: Path) -> None:
    first = use(installed)
    assert first[-1] == "compiled 1"
    assert first[0].startswith("compiling kernels: ")
    assert first[0].endswith(f"they are kept in {installed}/models/**/__pycache__")
    assert len(first) == 2
    assert use(installed) == ["compiled 0"]


def test_a_read_only_installation_keeps_them_with_the_user(installed: Path) -> None:
    for name in ("models", "tasks"):
        forbid(installed / name / "__pycache__")
    assert use(installed)[0].endswith(f"they are kept in {installed / 'home' / 'numba'}")
    assert use(installed) == ["compiled 0"]


def test_without_any_folder_every_run_compiles_and_says_so_in_one_line(installed: Path) -> None:
    for folder in ("models/__pycache__", "tasks/__pycache__", "home"):
        forbid(installed / folder)
    for _ in range(2):
        told = use(installed)
        assert told[0].startswith("kernels cannot be kept: ")
        assert "NUMBA_CACHE_DIR" in told[0]
        assert told[1:] == ["compiled 1"]
    assert not list((installed / "tmp").iterdir())
