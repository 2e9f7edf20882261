import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.errors import ConsentError, MachineError, MissingAssetError, UsageError
from tasks import fetch as module
from tasks.assets import find_asset
from tasks.fetch import fetch, fetch_all
from tasks.places import Places

CONTENT = bytes(range(256)) * 4000  # 1 MB


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; `cut` bytes after the start of the first answers it hangs up."""

    cuts: list[int]
    ranges: list[str]
    content = CONTENT
    understands_ranges = True


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/none":
            self.send_error(404)
            return
        wanted = self.headers.get("Range", "")
        self.server.ranges.append(wanted)
        start = int(wanted[6:-1]) if wanted and self.server.understands_ranges else 0
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(self.server.content) - 1}/{len(self.server.content)}"
            )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    made = Server(("127.0.0.1", 0), Handler)
    made.cuts, made.ranges = [], []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def places(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    base = f"http://127.0.0.1:{server.server_address[1]}"
    digest = hashlib.sha256(CONTENT).hexdigest()
    entries = {
        "weights": {"url": f"{base}/w.bin", "licence": "MIT"},
        "restricted": {"url": f"{base}/w.bin", "licence": "for research only"},
        "gone": {"url": f"{base}/none", "licence": "MIT"},
        "made": {"url": "", "licence": "MIT"},
        "insecure": {"url": "http://example.org/w.bin", "licence": "MIT"},
    }
    text = ""
    for name, entry in entries.items():
        text += f'[{name}]\nfile = "{name}.bin"\nurl = "{entry["url"]}"\nsha256 = "{digest}"\nbytes = {len(CONTENT)}\n'
        text += f'licence = "{entry["licence"]}"\nwhat = "the {name}"\n'
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "assets.toml").write_text(text)
    return Places(tmp_path)


def left(places: Places) -> list[str]:
    return sorted(path.name for path in (places.root / "data" / "assets").glob("*"))


def test_an_asset_comes_whole_and_only_once(places: Places, server: Server) -> None:
    path = fetch(places, "weights")
    assert path.read_bytes() == CONTENT
    assert left(places) == ["weights.bin"]
    assert find_asset(places, "weights") == path
    fetch(places, "weights")
    assert server.ranges == [""]


def test_a_broken_connection_goes_on_where_it_stopped(places: Places, server: Server) -> None:
    server.cuts = [300_000, 200_000]
    assert fetch(places, "weights").read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=300000-", "bytes=500000-"]


def test_what_has_arrived_is_kept_for_the_next_call(places: Places, server: Server) -> None:
    server.cuts = [100_000] * 3
    with pytest.raises(MachineError, match="stopped at 0.3 of 1.0 MB") as error:
        fetch(places, "weights")
    assert error.value.exit_code == 5
    assert left(places) == ["weights.bin.part"]
    assert fetch(places, "weights").read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=300000-"


def test_a_server_that_cannot_continue_sends_all_again(places: Places, server: Server) -> None:
    server.understands_ranges = False
    server.cuts = [300_000]
    assert fetch(places, "weights").read_bytes() == CONTENT


def test_another_file_is_not_accepted(places: Places, server: Server) -> None:
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(MissingAssetError, match="not the file that was meant"):
        fetch(places, "weights")
    assert left(places) == []


def test_more_than_the_file_has_is_not_stored(places: Places, server: Server) -> None:
    server.content = CONTENT * 3
    with pytest.raises(MissingAssetError, match="sends more than"):
        fetch(places, "weights")
    part = places.root / "data" / "assets" / "weights.bin.part"
    assert part.stat().st_size <= len(CONTENT)


def test_a_restricted_licence_is_shown_and_has_to_be_accepted(places: Places, server: Server) -> None:
    with pytest.raises(ConsentError, match="for research only") as error:
        fetch(places, "restricted")
    assert error.value.fix.endswith("gausstalk fetch restricted --accept")
    assert server.ranges == []
    assert fetch(places, "restricted", accept=True).read_bytes() == CONTENT


def test_what_no_program_can_download_says_how_to_get_it(places: Places) -> None:
    with pytest.raises(MissingAssetError) as error:
        fetch(places, "made")
    assert "the made" in error.value.fix
    assert "data/assets/made.bin" in error.value.fix


def test_a_missing_file_fails_at_once_and_keeps_nothing_else_from_coming(places: Places) -> None:
    with pytest.raises(MachineError, match="gone"):
        fetch_all(places, ["gone", "weights"])
    assert left(places) == ["weights.bin"]


def test_names_and_addresses_are_checked(places: Places) -> None:
    with pytest.raises(UsageError, match="no asset 'wieghts'"):
        fetch(places, "wieghts")
    with pytest.raises(UsageError, match="not an https address"):
        fetch(places, "insecure")
