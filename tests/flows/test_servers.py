import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.environment import prepare
from flows.servers import answers, free_port, running_prefect
from tasks.locks import only_one
from tasks.places import Places
from tasks.tracking import EXPERIMENT

ROOT = Path(__file__).resolve().parents[2]


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port(port) <= port + 99


def test_projects_that_start_at_one_moment_have_servers_of_their_own(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from flows.processes import Children; from tasks.places import Places\n"
        "from flows.servers import prefect_for_a_run; root = Path(sys.argv[1])\n"
        "with prefect_for_a_run(Places(root), Children(root / 'children.json')) as url: print(url, flush=True); input()"
    )
    for name in "ab":
        (tmp_path / name).mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    projects = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name)], env=environment, **pipes) for name in "ab"
    ]
    addresses = [project.stdout.readline() for project in projects]
    for project in projects:
        project.communicate("\n", timeout=120)
    assert all(address.startswith("http://127.0.0.1:") for address in addresses)
    assert addresses[0] != addresses[1]


def test_no_server_is_found_where_none_answers(tmp_path: Path) -> None:
    note = tmp_path / ".work" / "run" / "servers.json"
    assert running_prefect(Places(tmp_path)) is None
    note.parent.mkdir(parents=True)
    note.write_text('{"prefect": "http://127.0.0.1:9"}')
    assert running_prefect(Places(tmp_path)) is None
    note.write_text("{")
    assert running_prefect(Places(tmp_path)) is None


def test_no_proxy_is_asked_for_what_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "intranet"})
    monkeypatch.setattr(urllib.request, "_opener", None)  # which another test may have made without a proxy
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert not answers(url)
        for _ in range(2):
            prepare(Places(tmp_path))
            assert answers(url)
            assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "intranet,127.0.0.1,localhost"
        server.shutdown()
    monkeypatch.setattr(os, "environ", {"no_proxy": "*"})
    prepare(Places(tmp_path))
    assert os.environ["no_proxy"] == "*"


def as_a_browser(address: str) -> urllib.request.Request:
    return urllib.request.Request(address, headers={"Accept": "text/html"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text("speakers: []\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    return tmp_path


def test_ui_shows_both_addresses_and_ends_with_everything_it_started(folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PYTHONPATH": str(ROOT), "GAUSSTALK_ROOT": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "ui"], env=environment, cwd=folder, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        addresses = dict(line.split() for line in lines[:2])
        assert list(addresses) == ["prefect", "mlflow"]
        for address in addresses.values():
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(as_a_browser(address), timeout=20) as page:
                assert b"<html" in page.read().lower()
        base, _, place = addresses["mlflow"].partition("/#/experiments/")
        experiment, _, rest = place.partition("/")
        assert rest == "runs"  # MLflow's first page tells nothing of this project
        with urllib.request.urlopen(
            f"{base}/api/2.0/mlflow/experiments/get?experiment_id={experiment}", timeout=20
        ) as told:
            assert json.load(told)["experiment"]["name"] == EXPERIMENT
        prefect, runs, _ = addresses["prefect"].partition("/runs")
        assert runs  # at / a browser may be sent elsewhere
        assert running_prefect(Places(folder)) == prefect
        with urllib.request.urlopen(f"{prefect}/ui-settings", timeout=20) as told:
            settings = json.load(told)
        # The pages ask the server that they come from, whatever its port is.
        assert settings["api_url"] == f"{prefect}/api"
        # Those that call an outside service are not offered, and an old address of theirs leads to the others.
        assert settings["default_ui"] == "v1"
        assert settings["available_uis"] == ["v1"]
        with urllib.request.urlopen(as_a_browser(f"{prefect}/v2/dashboard"), timeout=20) as page:
            assert page.url == f"{prefect}/dashboard"
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        with only_one(folder / ".work" / "run" / "lock", "a run"):
            process.send_signal(signal.SIGINT)
            assert "A run is going on" in process.stdout.readline()
            assert running_prefect(Places(folder)) == prefect
        assert process.wait(60) == 130  # once the run has ended, without being asked again
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert running_prefect(Places(folder)) is None
