"""The child process of `tasks.confined`: shuts itself in, then runs one converter on files that are not trusted."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import GausstalkError, InputError, MachineError

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
FORBIDDEN = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.system",
             "os.kill", "pty.", "ftplib.", "urllib.", "http.", "webbrowser.", "ctypes.cdata")  # fmt: skip
# These take paths that are changed.
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
           "os.chown", "os.utime", "shutil.", "tempfile.")  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def limit(memory: int, seconds: int, most_bytes: int) -> None:
    """Bound what this process may use; no core is dumped, and it ends with its parent."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 10))  # told first, then ended
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if libc.unshare(CLONE_NEWNET):  # an empty network; without rights, in a namespace of its own
            libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def shut_in(folder: Path) -> None:
    """Have Python refuse, from now on, connections, other programs, and changes outside `folder`; nothing undoes it."""
    inside = str(folder.resolve()) + os.sep

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN):
            raise PermissionError(f"a converter may not do this: {event}")
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & WRITING and not allowed(path):
                raise PermissionError(f"a converter may not write {os.fsdecode(path)}")
        elif event.startswith(CHANGES):
            for path in arguments:
                if isinstance(path, str | bytes | os.PathLike) and not allowed(path):
                    raise PermissionError(f"a converter may not do this: {event} of {os.fsdecode(path)}")

    def allowed(path: str | bytes | os.PathLike[str]) -> bool:
        real = os.path.realpath(os.fsdecode(path))
        return real.startswith(inside) or real == os.devnull

    sys.addaudithook(refuse)


def do(job: dict[str, Any], folder: Path) -> None:
    """Run the converter of a job; its output lies in `folder` afterwards.

    Raises:
        GausstalkError: the converter's own.
    """
    function: Callable[[Path, Path], None] | None = None
    if job["convert"]:
        module, name = job["convert"].split(":")
        function = getattr(importlib.import_module(module), name)
    inputs = folder / "inputs"
    inputs.mkdir()
    for name in job["inputs"].keys() - job["members"].keys():
        (inputs / name).symlink_to(job["inputs"][name])
    shut_in(folder)
    for name, member in job["members"].items():
        extract(Path(job["inputs"][name]), member, inputs, job["most_bytes"])
    files = sorted(inputs.iterdir())
    output = folder / job["output"]
    if function is None:
        files[0].rename(output)
    else:
        function(files[0] if len(files) == 1 else inputs, output)


def extract(archive: Path, member: str, folder: Path, most_bytes: int) -> Path:
    """Unpack one file of a zip archive, whatever folder it has in there.

    Raises:
        InputError: it is no archive, has no such file, or the file is too large or damaged.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [entry for entry in opened.infolist() if entry.filename.rsplit("/", 1)[-1] == member]
            if len(found) != 1:
                names = ", ".join(opened.namelist()[:10])
                raise InputError(f"{archive.name} has {len(found)} files {member}", f"there are: {names}")
            if found[0].file_size > most_bytes:
                raise InputError(f"{member} in {archive.name} has {found[0].file_size} bytes, more than {most_bytes}")
            target = folder / member
            with opened.open(found[0]) as packed, target.open("wb") as file:
                while block := packed.read(1 << 20):
                    file.write(block)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{archive.name} cannot be unpacked", str(error), "get it again") from error
    return target


def main() -> int:
    """Read a job from stdin and do it; what goes wrong is written down for the parent."""
    job, folder = json.load(sys.stdin), Path.cwd()
    limit(job["memory"], job["seconds"], job["most_bytes"])
    try:
        do(job, folder)
        return 0
    except GausstalkError as error:
        failure = error
    except MemoryError:
        failure = MachineError(
            f"{job['output']}: the conversion wants more than {job['memory'] / 1e9:.1f} GB of memory",
            "a whole official file needs less",
            "get the files again",
        )
    except PermissionError as error:
        failure = InputError(f"{job['output']}: the conversion was stopped", str(error), "get the files again")
    except Exception as error:  # noqa: BLE001 - a damaged file fails in any way
        failure = InputError(
            f"{job['output']}: the files cannot be converted", f"{type(error).__name__}: {error}", "get the files again"
        )
    answer = {"kind": type(failure).__name__, "what": failure.what, "why": failure.why, "fix": failure.fix}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")
    return 1


if __name__ == "__main__":
    sys.exit(main())
