"""What comes over the wire comes whole, once, from where it should, or the error says what is in the way."""

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from asset_list import add, left
from file_server import FileServer, serving

from models.errors import ConsentError, MachineError, MissingAssetError, UsageError
from tasks import download as module
from tasks.assets import find_asset, read_assets, sources_of
from tasks.fetch import _alone, fetch, fetch_all
from tasks.places import Places

ROOT = Path(__file__).resolve().parents[2]
CONTENT = bytes(range(256)) * 4000  # 1 MB
OTHER = CONTENT[::-1]
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    with serving() as made:
        made.files["/w.bin"] = CONTENT
        yield made


@pytest.fixture
def places(tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    known = f'url = "{server.address}/w.bin"\nsha256 = "{SHA256}"\nbytes = {len(CONTENT)}'
    entries = {
        "weights": known,
        "restricted": known,
        "gone": known.replace("w.bin", "none"),
        "made": "",
        "insecure": 'url = "http://example.org/w.bin"',
        "unknown": f'url = "{server.address}/w.bin"\nat_most = 1500000',
        "turning": f'url = "{server.address}/turn"\nsha256 = "{SHA256}"\nbytes = {len(CONTENT)}',
    }
    text = ""
    for name, entry in entries.items():
        licence = "for research only" if name == "restricted" else "MIT"
        text += f'[{name}]\nfile = "{name}.bin"\nlicence = "{licence}"\nwhat = "the {name}"\n{entry}\n'
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "assets.toml").write_text(text)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    return Places(tmp_path)


def part(places: Places, name: str = "weights") -> Path:
    return places.root / "data" / "assets" / f"{name}.bin.part"


def start(places: Places, name: str, limit: str = "") -> "subprocess.Popen[str]":
    """Run `gausstalk fetch` in a process of its own."""
    code = f"import resource; {limit}\nfrom flows.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GAUSSTALK_ROOT": str(places.root)}
    command = [sys.executable, "-c", code, "fetch", name]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_an_asset_comes_whole_and_only_once(places: Places, server: FileServer) -> None:
    path = fetch(places, "weights")
    assert path.read_bytes() == CONTENT
    assert left(places) == ["weights.bin"]
    assert find_asset(places, "weights") == path
    fetch(places, "weights")
    assert server.asked == [""]


def test_a_damaged_asset_is_brought_again(places: Places, server: FileServer) -> None:
    fetch(places, "weights").write_bytes(OTHER)
    assert fetch(places, "weights").read_bytes() == CONTENT
    assert server.asked == ["", ""]


def test_a_broken_connection_goes_on_where_it_stopped(places: Places, server: FileServer) -> None:
    server.cuts = [300_000, 200_000]
    assert fetch(places, "weights").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=500000-"]
    assert left(places) == ["weights.bin"]


def test_what_has_arrived_is_kept_for_the_next_call(places: Places, server: FileServer) -> None:
    server.cuts = [100_000] * 3
    with pytest.raises(MachineError, match="stopped at 0.3 MB of 1.0 MB") as error:
        fetch(places, "weights")
    assert error.value.exit_code == 5
    assert part(places).stat().st_size == 300_000
    assert fetch(places, "weights").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=300000-"


def test_a_killed_fetch_is_continued(places: Places, server: FileServer) -> None:
    server.pause_after = 400_000
    child = start(places, "weights")
    for _ in range(600):
        if part(places).is_file() and part(places).stat().st_size >= 200_000:
            break
        threading.Event().wait(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    server.pause_after = -1
    server.go.set()
    size = part(places).stat().st_size
    assert 0 < size < len(CONTENT)
    assert fetch(places, "weights").read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={size}-"]


def test_a_server_that_cannot_continue_sends_all_again(places: Places, server: FileServer) -> None:
    server.understands_ranges = False
    server.cuts = [300_000]
    assert fetch(places, "weights").read_bytes() == CONTENT


def test_a_file_that_changes_in_between_is_not_joined_with_the_old_one(places: Places, server: FileServer) -> None:
    server.cuts = [300_000] * 3
    server.understands_ranges = False
    with pytest.raises(MachineError):
        fetch(places, "unknown")
    server.understands_ranges = True
    server.files["/w.bin"], server.tag = OTHER, '"2"'
    assert fetch(places, "unknown").read_bytes() == OTHER  # the server saw from If-Range that it is another one
    assert server.asked[-1] == "bytes=300000-"


@pytest.mark.parametrize("name", ["weights", "unknown"])
def test_parts_of_two_versions_are_thrown_away(places: Places, server: FileServer, name: str) -> None:
    """A server that names no versions: the checksum tells, and without one nothing is continued."""
    server.tag = ""
    server.files["/w.bin"] = OTHER
    server.cuts = [300_000] * 3
    with pytest.raises(MachineError):
        fetch(places, name)
    server.files["/w.bin"] = CONTENT
    assert fetch(places, name).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_dropped(places: Places, server: FileServer) -> None:
    part(places, "unknown").parent.mkdir()
    part(places, "unknown").write_bytes(bytes(1_100_000))
    module._tag(part(places, "unknown")).write_text('"1"')
    assert fetch(places, "unknown").read_bytes() == CONTENT


def test_a_part_that_is_the_whole_file_is_not_brought_again(places: Places, server: FileServer) -> None:
    part(places, "unknown").parent.mkdir()
    part(places, "unknown").write_bytes(CONTENT)
    module._tag(part(places, "unknown")).write_text(server.tag)
    assert fetch(places, "unknown").read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_an_end_that_nothing_marks_is_trusted_only_with_a_checksum(places: Places, server: FileServer) -> None:
    server.tells_length, server.ends_by_closing = False, True
    assert fetch(places, "weights").read_bytes() == CONTENT
    with pytest.raises(MissingAssetError, match="does not say how long"):
        fetch(places, "unknown")
    assert not part(places, "unknown").exists()


def test_another_file_is_not_accepted(places: Places, server: FileServer) -> None:
    server.files["/w.bin"] = OTHER
    with pytest.raises(MissingAssetError, match="not the file that was meant"):
        fetch(places, "weights")
    assert left(places) == []
    assert not part(places).exists()


@pytest.mark.parametrize("content", [CONTENT * 3, CONTENT[:-1], b""])
def test_a_file_of_another_size_is_not_even_begun(places: Places, server: FileServer, content: bytes) -> None:
    server.files["/w.bin"] = content
    with pytest.raises(MissingAssetError, match=f"offers {len(content)} bytes"):
        fetch(places, "weights")
    assert not part(places).exists()


def test_a_server_that_does_not_stop_sending_is_cut(places: Places, server: FileServer) -> None:
    server.tells_length = False
    server.files["/w.bin"] = CONTENT * 3
    with pytest.raises(MissingAssetError, match="sends more than 1024000 bytes"):
        fetch(places, "weights")
    with pytest.raises(MissingAssetError, match="sends more than 1500000 bytes"):
        fetch(places, "unknown")
    assert not part(places).exists()
    server.tells_length = True
    with pytest.raises(MissingAssetError, match="offers 3 MB, at most 2 MB"):
        fetch(places, "unknown")


def test_one_redirect_is_followed_and_a_circle_is_not(places: Places, server: FileServer) -> None:
    server.redirects = {"/turn": f"{server.address}/w.bin"}
    assert fetch(places, "turning").read_bytes() == CONTENT
    (places.root / "data/assets/turning.bin").unlink()
    server.redirects = {"/turn": "/back", "/back": "/turn"}
    with pytest.raises(MissingAssetError, match="redirects in circles"):
        fetch(places, "turning")
    server.redirects = {"/turn": "/turn1"} | {f"/turn{k}": f"/turn{k + 1}" for k in range(1, 20)}
    with pytest.raises(MissingAssetError, match="more than 5 times"):
        fetch(places, "turning")


@pytest.mark.parametrize("goal", ["http://example.org/w.bin", "ftp://127.0.0.1/w.bin", "file:///etc/passwd"])
def test_a_redirect_away_from_https_is_refused(places: Places, server: FileServer, goal: str) -> None:
    server.redirects = {"/turn": goal}
    with pytest.raises(MissingAssetError, match=f"redirects to {goal}"):
        fetch(places, "turning")
    assert "turning.bin" not in left(places)


def test_a_full_disk_keeps_what_there_is(places: Places, server: FileServer) -> None:
    child = start(places, "weights", "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))")
    error = child.communicate(timeout=60)[1]
    assert child.returncode == 5
    assert "the disk is full after 0.3 MB" in error
    assert "Traceback" not in error
    assert part(places).stat().st_size == 300_000
    assert fetch(places, "weights").read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=300000-"


def test_room_is_looked_for_before_anything_is_stored(
    places: Places, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(places.root)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=module.SPARE + 500_000))
    with pytest.raises(MachineError, match="and 1 MB are to come"):
        fetch(places, "weights")
    assert not part(places).exists()


def test_the_first_download_decides_where_no_checksum_is_known(places: Places, server: FileServer) -> None:
    path = fetch(places, "unknown")
    record = (places.root / "data" / "assets.lock").read_text()
    assert f"{SHA256} {server.address}/w.bin" in record
    path.unlink()
    server.files["/w.bin"] = OTHER
    with pytest.raises(MissingAssetError) as error:
        fetch(places, "unknown")
    assert f"an earlier download had {SHA256}" in error.value.why
    assert not path.exists()
    server.files["/w.bin"] = CONTENT
    assert fetch(places, "unknown") == path
    assert (places.root / "data" / "assets.lock").read_text() == record


def test_a_web_page_is_not_taken_for_the_file(places: Places, server: FileServer) -> None:
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(MissingAssetError, match="sends a web page"):
        fetch(places, "unknown")
    assert left(places) == []
    assert not (places.root / "data" / "assets.lock").exists()


def test_a_checksum_other_than_sha256_is_compared_too(places: Places, server: FileServer) -> None:
    name = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()  # what `git hash-object` prints
    add(places, "blob", f'file = "b.bin"\nurl = "{server.address}/w.bin"\ndigest = "git:{name}"')
    server.files["/w.bin"] = OTHER
    with pytest.raises(MissingAssetError, match="not the file that was meant"):
        fetch(places, "blob")
    assert not (places.root / "data" / "assets.lock").exists()
    server.files["/w.bin"] = CONTENT
    assert fetch(places, "blob").read_bytes() == CONTENT


def test_two_fetches_of_one_asset_do_not_meet(
    places: Places, server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.pause_after = 200_000
    caplog.set_level(logging.INFO, "gausstalk")
    logging.getLogger("gausstalk").propagate = True
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(places, "weights").read_bytes())) for _ in "ab"]
    for thread in threads:
        thread.start()
    for _ in range(200):
        if "waiting" in caplog.text:
            break
        threading.Event().wait(0.02)
    server.go.set()
    for thread in threads:
        thread.join(30)
    assert results == [CONTENT, CONTENT]
    assert server.asked == [""]
    assert "another process fetches it; waiting" in caplog.text


def test_whoever_waits_comes_alone_and_no_lock_is_left(places: Places) -> None:
    inside: list[int] = []
    most: list[int] = []

    def enter(who: int) -> None:
        for _ in range(25):
            with _alone(places, "weights"):
                inside.append(who)
                threading.Event().wait(0.0005)
                most.append(len(inside))
                inside.remove(who)

    threads = [threading.Thread(target=enter, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 150
    with pytest.raises(FileNotFoundError), _alone(places, "weights"):
        raise FileNotFoundError
    assert left(places) == []


def test_a_restricted_licence_is_shown_and_has_to_be_accepted(places: Places, server: FileServer) -> None:
    with pytest.raises(ConsentError, match="for research only") as error:
        fetch(places, "restricted")
    assert error.value.fix.endswith("gausstalk fetch restricted --accept")
    assert server.asked == []
    assert fetch(places, "restricted", accept=True).read_bytes() == CONTENT


def test_what_no_program_can_download_says_how_to_get_it(places: Places) -> None:
    with pytest.raises(MissingAssetError) as error:
        fetch(places, "made")
    assert "the made" in error.value.why
    assert "get made.bin, put it into data/assets/" in error.value.fix


def test_a_missing_file_fails_at_once_and_keeps_nothing_else_from_coming(places: Places, server: FileServer) -> None:
    with pytest.raises(MachineError, match="gone"):
        fetch_all(places, ["gone", "weights"])
    assert "weights.bin" in left(places)
    assert server.asked == [""]


def test_of_several_failures_each_is_told_once(places: Places, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError, match="no asset 'one'"):
        fetch_all(places, ["one", "two"])
    assert "no asset 'two'" in caplog.text
    assert "no asset 'one'" not in caplog.text  # that is raised


def test_a_machine_without_a_network_is_told_so(places: Places) -> None:
    add(places, "far", 'file = "far"\nurl = "https://no.such.host.invalid/far"')
    with pytest.raises(MachineError, match="no.such.host.invalid cannot be reached") as error:
        fetch(places, "far")
    assert "gausstalk fetch far with a network" in error.value.fix


def test_names_addresses_and_fields_are_checked(places: Places) -> None:
    with pytest.raises(UsageError, match="no asset 'wieghts'"):
        fetch(places, "wieghts")
    with pytest.raises(UsageError, match="not an https address"):
        fetch(places, "insecure")
    add(places, "odd", 'file = "odd"\nlicense = "MIT"')
    with pytest.raises(UsageError, match="odd is not an asset"):
        fetch(places, "weights")


def test_the_projects_own_list_is_whole() -> None:
    places = Places(ROOT)
    for name, asset in read_assets(places).items():
        assert asset.use, name
        sources = sources_of(places, asset)
        assert sources, name
        for source in sources:
            assert source.url.startswith("https://") or (not source.url and asset.page), (name, source.file)
            # Nothing that is downloaded is without a bound, and what no checksum pins is a fixed version.
            if source.url:
                assert source.bytes or source.at_most, (name, source.file)
                assert len(source.sha256) == 64 or source.digest or "/main/" not in source.url, (name, source.file)
        if asset.convert:
            module_name, function = asset.convert.split(":")
            assert callable(getattr(__import__(module_name, fromlist=[function]), function)), name
