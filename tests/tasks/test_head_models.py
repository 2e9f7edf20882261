"""Head models by the names of speakers' records, from files of the official form."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from head_files import write_bfm, write_flame

from models.demo.head_model import build
from models.errors import MissingAssetError, UsageError
from models.records import HeadTrack
from tasks.head_models import load_head_model, posed_landmarks
from tasks.params import validate
from tasks.people import Speaker
from tasks.places import Places

ASSETS = "\n".join(
    f'[{name}]\nfile = "{file}"\nurl = ""\nsha256 = ""\nbytes = 0\nlicence = "{licence}"\nwhat = "a head"\n'
    for name, file, licence in (
        ("canonical_face", "canonical_face_model.obj", "Apache-2.0"),
        ("flame2020", "flame2020.npz", "for research alone"),
        ("bfm2009", "bfm2009.npz", "for research alone"),
    )
)


@pytest.fixture
def places(tmp_path: Path, assets: Path) -> Places:
    folder = tmp_path / "data" / "assets"
    folder.mkdir(parents=True)
    (tmp_path / "data" / "assets.toml").write_text(ASSETS)
    shutil.copy(assets / "model3d" / "canonical_face_model.obj", folder)
    return Places(tmp_path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ict", "ict"),
        ("flame", "flame2023_open"),
        ("flame2020", "flame2020"),
        ("bfm", "bfm2009"),
        ("procedural", "synthetic"),
    ],
)
def test_short_names_stand_for_one_model_each(written: str, meant: str) -> None:
    record = {"name": "ann", "basis": "synthetic", "sources": ["a.mp4"], "head_model": written}
    assert validate(Speaker, record, "ann").head_model == meant


def test_an_unknown_model_is_refused_with_those_there_are() -> None:
    record = {"name": "ann", "basis": "synthetic", "sources": ["a.mp4"], "head_model": "flame2017"}
    with pytest.raises(UsageError, match="flame2023_open"):
        validate(Speaker, record, "ann")


def test_a_model_that_is_not_here_is_named_with_its_licence_and_the_command(places: Places) -> None:
    with pytest.raises(MissingAssetError) as error:
        load_head_model(places, "flame2020")
    assert "for research alone" in str(error.value)
    assert "gausstalk fetch flame2020" in str(error.value)


def test_a_track_of_a_model_with_a_jaw_moves_its_landmarks(places: Places) -> None:
    folder = places.root / "data" / "assets"
    write_flame(folder / "flame2020.npz", build(), "jaw", (0.0, -0.02, 0.01))
    model = load_head_model(places, "flame2020", identities=4, expressions=3)
    assert model.name == "flame2020"
    assert (len(model.identity), len(model.expression)) == (4, 3)
    assert model.skeleton is not None
    rest = model.landmarks().astype(np.float32)
    turns = model.skeleton.turns(np.array([[0, 0, 0], [0.25, 0, 0]], np.float32))
    nothing, index = np.zeros((2, 3), np.float32), model.landmark_index.astype(np.int32)
    poses, camera = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)), np.eye(3, dtype=np.float32)
    track = HeadTrack("flame2020", 256, 256, camera, poses, np.ones(2, bool), np.zeros(4, np.float32), nothing,
                      turns, index, rest, nothing[:, 0])  # fmt: skip
    track.save(folder)
    again = HeadTrack.load(folder)
    still, opened = (posed_landmarks(model, again, frame) for frame in (0, 1))
    chin, brow = (index.tolist().index(number) for number in (152, 105))
    assert np.abs(still - rest).max() < 1e-6
    assert opened[chin, 1] < rest[chin, 1] - 0.012
    assert np.abs(opened[brow] - rest[brow]).max() < 0.0005


def test_bfm_is_found_by_its_asset(places: Places) -> None:
    write_bfm(places.root / "data" / "assets" / "bfm2009.npz", build())
    model = load_head_model(places, "bfm2009")
    assert model.name == "bfm2009"
    assert len(model.identity) == 15
    assert model.landmarks().shape[1] == 3
