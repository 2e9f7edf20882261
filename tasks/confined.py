"""Runs the conversion of an official file in a child process that can do little else.

The child (`tasks.confined_child`) has limits on memory, time and file sizes, no network where the system allows to take
it away, an environment of its own, and may write only into one folder. What it leaves there is taken over by renaming.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from models import errors
from models.errors import GausstalkError, InputError, MachineError

CODE = Path(__file__).resolve().parents[1]
ANSWER = "answer.json"
NOTES = "notes.txt"
KEPT_VARIABLES = ("LD_LIBRARY_PATH", "SYSTEMROOT")  # where an installation's own libraries lie


@dataclass(frozen=True)
class Job:
    """What a child is to do.

    Attributes:
        inputs: files by the name that the converter knows them by.
        members: of which input that is a zip archive, which file is meant.
        convert: "module:function" of the project, called with one file, or the folder of several, and the output;
            none: the one input is the output.
        output: name of the file to make.
        most_bytes: that any file may have.
        memory: bytes of memory of its own.
        seconds: of computing; three times as many and a minute may pass.
    """

    inputs: dict[str, str]
    members: dict[str, str]
    convert: str
    output: str
    most_bytes: int = 4 << 30
    memory: int = 6 << 30
    seconds: int = 900


def run(job: Job, folder: Path) -> Path:
    """Do a job in a child process and return the file that it has made, which lies in `folder`.

    Raises:
        GausstalkError: what the converter says, or that it went beyond its limits.
    """
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment |= {"PYTHONPATH": str(CODE), "HOME": str(folder), "TMPDIR": str(folder)}
    environment |= {"LANG": "C.UTF-8", "PATH": os.defpath}
    command = [sys.executable, "-P", "-s", "-B", "-m", "tasks.confined_child"]
    patience = 60 + 3 * job.seconds
    with (folder / NOTES).open("wb") as notes:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=notes,
            start_new_session=True,
        )
        try:
            child.communicate(json.dumps(asdict(job)).encode(), timeout=patience)
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"{job.output}: the conversion took more than {patience} s") from error
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    made = folder / job.output
    if child.returncode == 0 and made.is_file() and not made.is_symlink():
        return made
    raise _failure(job, folder, child.returncode)


def _failure(job: Job, folder: Path, code: int) -> GausstalkError:
    """Return what the child said before it ended, or what its end means."""
    try:
        answer = json.loads((folder / ANSWER).read_bytes()[: 1 << 16])
        kind = getattr(errors, str(answer["kind"]), None)
        if isinstance(kind, type) and issubclass(kind, GausstalkError):
            return kind(str(answer["what"]), str(answer["why"]), str(answer["fix"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    reasons = {
        -signal.SIGXCPU: f"it computed for more than {job.seconds} s",
        -signal.SIGKILL: "the system ended it, perhaps for want of memory",
        -signal.SIGXFSZ: f"it wrote more than {job.most_bytes / 1e6:.0f} MB",
    }
    last = (folder / NOTES).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    why = reasons.get(code, last[-1] if last else f"exit code {code}")
    return InputError(f"{job.output} could not be made from {', '.join(job.inputs)}", why, "get the files again")
