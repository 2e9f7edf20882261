"""A converter of an official file can compute, and nothing else."""

import os
from pathlib import Path

import pytest

from models.errors import GausstalkError, InputError, MachineError
from tasks import confined

CONVERTER = """
import os, socket, subprocess, sys, time
from pathlib import Path

def copy(path, out): out.write_bytes(path.read_bytes())
def names(folder, out): out.write_text(" ".join(sorted(p.name for p in folder.iterdir())))
def environment(path, out): out.write_text("\\n".join(map("=".join, os.environ.items())))
def outside(path, out): open(path.read_text(), "w").close()
def remove(path, out): os.remove(path.read_text())
def run(path, out): subprocess.run(["true"])
def shell(path, out): os.system("touch " + path.read_text())
def connect(path, out): socket.create_connection(("127.0.0.1", 80), 1)
def memory(path, out): out.write_bytes(bytes(800_000_000))
def forever(path, out):
    while True: pass
def large(path, out):
    with out.open("wb") as file:
        while True: file.write(bytes(1 << 20))
def link(path, out): out.symlink_to("/etc/passwd")
def nothing(path, out): pass
def crash(path, out): os.abort()
def limits(path, out):
    import resource
    out.write_text(f"{resource.getrlimit(resource.RLIMIT_CORE)} {Path.cwd()} {len(os.listdir('/sys/class/net'))}")
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "odd_converter.py").write_text(CONVERTER)
    monkeypatch.setattr(confined, "CODE", f"{confined.CODE}{os.pathsep}{tmp_path / 'code'}")
    (tmp_path / "work").mkdir()
    canary = tmp_path / "canary"
    (tmp_path / "input").write_text(str(canary))

    def run(function: str, **limits: int) -> Path:
        inputs = {"input": str(tmp_path / "input")}
        return confined.run(confined.Job(inputs, {}, f"odd_converter:{function}", "out", **limits), tmp_path / "work")

    return run


def test_a_converter_reads_its_files_and_writes_one(job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert job("copy").read_text() == str(tmp_path / "canary")


def test_it_sees_neither_secrets_nor_the_users_home(job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:word@127.0.0.1")
    seen = dict(line.split("=", 1) for line in job("environment").read_text().splitlines())
    assert not {"SECRET_TOKEN", "HTTPS_PROXY", "USER", "GAUSSTALK_ASSETS", "VIRTUAL_ENV"} & set(seen)
    assert seen["HOME"] == seen["TMPDIR"] == str(tmp_path / "work")
    assert seen["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("function", ["outside", "shell", "run", "connect"])
def test_it_can_neither_write_elsewhere_nor_start_programs_nor_connect(job, tmp_path: Path, function: str) -> None:
    with pytest.raises(InputError, match="was stopped") as error:
        job(function)
    assert "a converter may not" in error.value.why
    assert not (tmp_path / "canary").exists()


def test_it_cannot_remove_what_is_not_its_own(job, tmp_path: Path) -> None:
    (tmp_path / "canary").touch()
    with pytest.raises(InputError, match="was stopped"):
        job("remove")
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("function", "limits", "kind", "says"),
    [
        ("memory", {"memory": 500_000_000}, MachineError, "wants more than 0.5 GB of memory"),
        ("forever", {"seconds": 1}, InputError, "it computed for more than 1 s"),
        ("large", {"most_bytes": 5_000_000}, InputError, "File too large"),
        ("crash", {}, InputError, "exit code -6"),
        ("nothing", {}, InputError, "could not be made"),
        ("link", {}, InputError, "could not be made|was stopped"),
        ("unknown", {}, InputError, "no attribute"),
    ],
)
def test_its_limits_hold(job, function: str, limits: dict[str, int], kind: type, says: str) -> None:
    with pytest.raises(GausstalkError) as error:
        job(function, **limits)
    assert type(error.value) is kind
    assert any(part in str(error.value) for part in says.split("|"))
