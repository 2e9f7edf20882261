import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.errors import BusyError
from tasks.locks import only_one

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import sys
from pathlib import Path
from tasks.locks import only_one
with only_one(Path(sys.argv[1]), "a run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_is_the_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(BusyError, match="a run is already going on") as error,
            only_one(tmp_path / "lock", "a run"),
        ):
            pass
        assert str(other.pid) in error.value.why
        other.communicate()
    with only_one(tmp_path / "lock", "a run"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())
