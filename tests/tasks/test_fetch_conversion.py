"""What archives and official files become: one plain file, checked, made without running anything of theirs."""

import hashlib
import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asset_list import add, left
from file_server import FileServer, serving

from models.errors import InputError, MissingAssetError
from tasks.fetch import fetch
from tasks.places import Places

CONTENT = bytes(range(256)) * 4000  # 1 MB
OTHER = CONTENT[::-1]


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as made:
        yield made


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.delenv("GAUSSTALK_ASSETS", raising=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "assets.toml").touch()
    return Places(tmp_path)


def packed(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_one_file_of_an_archive_is_unpacked(places: Places, server: FileServer) -> None:
    sha1 = hashlib.sha1(CONTENT).hexdigest()
    add(places, "graph", f'file = "g.pb"\ndigest = "sha1:{sha1}"\n'
        f'sources = [{{ file = "g.zip", url = "{server.address}/g.zip", member = "g.pb" }}]')  # fmt: skip
    server.files["/g.zip"] = packed({"readme": b"", "in/g.pb": CONTENT})
    assert fetch(places, "graph").read_bytes() == CONTENT
    assert left(places) == ["g.pb"]
    assert "/g.zip" in (places.root / "data" / "assets.lock").read_text()
    (places.root / "data/assets/g.pb").unlink()
    (places.root / "data/assets.lock").unlink()
    for content, what in ((packed({"in/g.pb": OTHER}), "not the file"), (packed({"x": b""}), "0 files g.pb"),
                          (b"PK" + bytes(500), "cannot be unpacked")):  # fmt: skip
        server.files["/g.zip"] = content
        with pytest.raises((MissingAssetError, InputError), match=what):
            fetch(places, "graph")
        assert not list((places.root / "data/assets").rglob("g.*"))
        assert not (places.root / "data/assets.lock").exists()  # what could not be used decides nothing
    server.files["/g.zip"] = packed({"g.pb": CONTENT})
    assert fetch(places, "graph").read_bytes() == CONTENT


def test_a_fetch_that_was_ended_before_it_could_unpack_goes_on_there(places: Places, server: FileServer) -> None:
    url = f"{server.address}/g.zip"
    add(places, "graph", f'file = "g.pb"\nsources = [{{ file = "g.zip", url = "{url}", member = "g.pb" }}]')
    store = places.root / "data/assets/sources/graph"
    store.mkdir(parents=True)
    (store / "g.zip").write_bytes(packed({"g.pb": CONTENT}))
    digest = hashlib.sha256((store / "g.zip").read_bytes()).hexdigest()
    assert fetch(places, "graph").read_bytes() == CONTENT
    assert server.asked == []
    assert f"{digest} {url}" in (places.root / "data/assets.lock").read_text()
    (places.root / "data/assets/g.pb").unlink()
    (places.root / "data/assets/g.zip").write_bytes(packed({"g.pb": OTHER}))  # not the one that was recorded
    server.files["/g.zip"] = packed({"g.pb": CONTENT, "more": b""})
    with pytest.raises(MissingAssetError, match="not the file that was meant"):
        fetch(places, "graph")


def test_meshes_that_a_list_names_become_one_archive(places: Places, server: FileServer, tmp_path: Path) -> None:
    from models.heads import ict_files

    neutral, lines = np.arange(12.0).reshape(4, 3), ""
    for name in ("generic_neutral_mesh", *(f"identity{k:03d}" for k in range(100)), *ict_files.EXPRESSIONS):
        moved = neutral + (name == "jawOpen") * np.array([[0, -1, 0]])
        text = "".join(f"v {x} {y} {z}\n" for x, y, z in moved) + "vt 0 1\nf 1/1 2/1 3/1 4/1\n"
        server.files[f"/{name}.obj"] = text.encode()
        lines += f"{hashlib.sha256(text.encode()).hexdigest()}  {name}.obj\n"
    (tmp_path / "data/list.sha256").write_text(f"# meshes\n{lines}")
    add(places, "head", f'file = "head.npz"\nbase = "{server.address}/"\nsums = "list.sha256"\n'
        'convert = "models.heads.ict_files:convert"')  # fmt: skip
    server.files["/jawOpen.obj"] += b"\n"
    with pytest.raises(MissingAssetError, match="not the file that was meant"):
        fetch(places, "head")
    server.files["/jawOpen.obj"] = server.files["/jawOpen.obj"][:-1]
    asked = len(server.asked)
    with np.load(fetch(places, "head"), allow_pickle=False) as head:
        np.testing.assert_array_equal(head["expression"][26], np.tile([0, -1, 0], (4, 1)))
    assert len(server.asked) - asked == 154 - (asked - 1)  # the meshes of the first try were kept
    assert left(places) == ["head.npz"]
    assert not (tmp_path / "data/assets.lock").exists()


GATED = 'file = "flame.npz"\nconvert = "models.heads.flame_files:convert"\npage = "https://example.org/licence"\n' \
        'sources = [{ file = "FLAME.zip", member = "generic_model.pkl" }]'  # fmt: skip


def flame(**others: Any) -> bytes:
    rng = np.random.default_rng(0)
    content = {"v_template": rng.random((6, 3)), "shapedirs": rng.random((6, 3, 4)), "posedirs": rng.random((6, 3, 36)),
               "J_regressor": rng.random((5, 6)), "weights": rng.random((6, 5)),
               "kintree_table": np.array([[-1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]), "f": np.zeros((1, 3), int)}  # fmt: skip
    return pickle.dumps({**content, **others})


@pytest.mark.parametrize("form", ["zip", "bare", "folder"])
def test_a_gated_file_is_converted_once_a_person_has_brought_it(places: Places, form: str) -> None:
    add(places, "flame", GATED)
    with pytest.raises(MissingAssetError) as error:
        fetch(places, "flame")
    assert "get FLAME.zip at https://example.org/licence" in error.value.fix
    folder = places.root / "data" / "assets"
    path = {"zip": "FLAME.zip", "bare": "generic_model.pkl", "folder": "FLAME/generic_model.pkl"}[form]
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(packed({"FLAME/generic_model.pkl": flame()}) if form == "zip" else flame())
    with np.load(fetch(places, "flame"), allow_pickle=False) as model:
        assert model["shapedirs"].shape == (6, 3, 4)
    assert (folder / path).is_file()  # what a person has brought stays


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def test_an_official_file_that_would_run_code_is_refused(places: Places, tmp_path: Path) -> None:
    add(places, "flame", GATED)
    canary = tmp_path / "canary"
    path = places.root / "data/assets/generic_model.pkl"
    path.parent.mkdir()
    path.write_bytes(flame(v_template=Call(open, str(canary), "w")))
    with pytest.raises(InputError) as error:
        fetch(places, "flame")
    assert f"it would call {open.__module__}.open" in error.value.why
    assert not canary.exists()
    assert left(places) == ["generic_model.pkl"]
