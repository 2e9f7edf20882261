"""The two servers that show what runs and what came out: Prefect's and MLflow's, on this machine only."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flows.environment import prepare
from flows.processes import Children
from models.errors import MachineError
from tasks.locks import held
from tasks.places import Places

HOST = "127.0.0.1"
PREFECT_PORT, MLFLOW_PORT = 4200, 5000
START_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Server:
    """A server that this process has started."""

    name: str
    url: str
    page: str  # for a person to open
    health: str
    log: Path
    process: subprocess.Popen[str]


def free_port(wanted: int) -> int:
    """Return `wanted`, or the next port of this machine that nobody listens on."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise MachineError(f"no free port from {wanted} to {wanted + 99}", "other programs listen on all of them")


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Keep projects that start at one moment from taking the same port, which looks free until a server answers."""
    with held(Path(tempfile.gettempdir()) / f"gausstalk-servers-{os.getuid()}.lock"):
        yield


def start_prefect(places: Places, children: Children) -> Server:
    """Start Prefect's server with its pages; `wait_for` waits until it answers."""
    port = free_port(PREFECT_PORT)
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    # The pages call the port 4200 unless they are told where their server is.
    settings = {"PREFECT_SERVER_UI_API_URL": f"{url}/api"}
    settings["PREFECT_SERVER_UI_STATIC_DIRECTORY"] = str(_pages(Path(os.environ["PREFECT_HOME"])))
    server = _start(places, children, "prefect", url, f"{url}/api/health", command, settings)
    # At / a browser goes to what it has once preferred on any server of this machine, be it there or not.
    return replace(server, page=f"{url}/runs")


def _pages(home: Path) -> Path:
    """Return a folder for Prefect's pages without room for the newer ones, which are then neither offered nor served.

    Those call amplitude.com whatever the settings say. A link that leads nowhere cannot be written through.
    """
    folder = home / "pages"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "v2").is_symlink():
        (folder / "v2").symlink_to("not_served")
    return folder


def start_mlflow(places: Places, children: Children) -> Server:
    """Start MLflow's pages over .work/mlflow; `wait_for` waits until they answer."""
    from tasks.tracking import artifact_folder, open_store, store_address

    # The server would make the database in place, and leave half of it where it is stopped early.
    _, experiment = open_store(places)
    port = free_port(MLFLOW_PORT)
    url = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store_address(places), "--artifacts-destination", str(artifact_folder(places))]
    server = _start(places, children, "mlflow", url, f"{url}/health", command, {})
    return replace(server, page=f"{url}/#/experiments/{experiment}/runs")  # the first page is about language models


def _start(
    places: Places, children: Children, name: str, url: str, health: str, command: list[str], settings: dict[str, str]
) -> Server:
    log = places.root / ".work" / "log" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        process = children.start(command, places.root, {**os.environ, **settings}, file.fileno())
    return Server(name, url, url, health, log, process)


def wait_for(server: Server) -> None:
    """Wait until a server answers.

    Raises:
        MachineError: it ended, or does not answer in time; the message says where its log is.
    """
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline:
        if answers(server.health):
            return
        if server.process.poll() is not None:
            break
        time.sleep(0.2)
    raise MachineError(
        f"the {server.name} server does not start",
        "\n".join(server.log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]),
        f"see {server.log}; `dvc repro` computes the same without it",
    )


def answers(address: str, patience_s: float = 1.0) -> bool:
    """Return whether something at `address` answers that it is well."""
    try:
        with urllib.request.urlopen(address, timeout=patience_s) as answer:  # noqa: S310 - an address of our own
            return answer.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _note(places: Places) -> Path:
    return places.root / ".work" / "run" / "servers.json"


def running_prefect(places: Places) -> str | None:
    """Return the address of the Prefect server of `gausstalk ui`, if it is up."""
    try:
        url = json.loads(_note(places).read_text())["prefect"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return url if answers(f"{url}/api/health") else None


@contextlib.contextmanager
def announced(places: Places, servers: list[Server]) -> Iterator[None]:
    """Tell other processes of this project where the servers are, for as long as the context lasts."""
    note = _note(places)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({server.name: server.url for server in servers}))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


@contextlib.contextmanager
def prefect_for_a_run(places: Places, children: Children) -> Iterator[str]:
    """Give the address of a Prefect server: the user's ($PREFECT_API_URL), that of `gausstalk ui`, or one for this run.

    One for this run shows its pages too, and ends with it.
    """
    prepare(places)
    if "PREFECT_API_URL" in os.environ:
        yield os.environ["PREFECT_API_URL"].removesuffix("/api")
        return
    url = running_prefect(places)
    server = None
    try:
        if not url:
            with starting():
                server = start_prefect(places, children)
                wait_for(server)
            url = server.url
        os.environ["PREFECT_API_URL"] = f"{url}/api"
        yield str(url)
    finally:
        os.environ.pop("PREFECT_API_URL", None)
        if server:
            _end(server, children)


def _end(server: Server, children: Children) -> None:
    from flows.processes import stop_groups

    stop_groups([server.process.pid])
    children.forget(server.process)
