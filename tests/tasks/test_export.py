"""A head on another machine says what it says here; its Gaussians are those that are drawn."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from speaking_egg import make_speaking_egg, write_person

from models.errors import ConsentError, InputError, UsageError
from models.gaussians.camera import Camera
from models.gaussians.ply import AXES
from models.methods.talking_gaussian import compose, draw
from models.methods.talking_gaussian_networks import Deformation
from models.records import AudioFeatures
from models.storage import read_header
from tasks import talker as talkers
from tasks.acting import Acting
from tasks.export import deformed, export, parse_frames
from tasks.live import stream
from tasks.media import FrameReader, write_wav
from tasks.places import Keys, Places
from tasks.say import say
from tasks.speech_features import AudioParams, Hearing
from tasks.talker import Talker
from tasks.talking_head import TalkingHead, audio_windows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return make_speaking_egg(tmp_path_factory.mktemp("egg"))


@pytest.fixture(scope="module")
def talker(places: Places) -> Talker:
    return Talker.of(places, "egg")


def sound() -> np.ndarray:
    random = np.random.default_rng(3)
    return (random.normal(0, 3000, 32000) * (np.sin(np.arange(32000) / 1500) > 0)).astype(np.int16)


@pytest.mark.parametrize("frame", [None, 25])
def test_a_head_file_says_what_the_project_says_held_still(
    talker: Talker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: int | None
) -> None:
    write_wav(tmp_path / "a.wav", sound())
    talker.save(tmp_path / "egg.safetensors", frame)
    acting = Acting(blinks=30.0)
    say(talker.still(frame), [tmp_path / "a.wav"], tmp_path / "here.mkv", acting, lossless=True)
    monkeypatch.setenv("GAUSSTALK_ROOT", str(tmp_path / "nowhere"))
    there = Talker.load(tmp_path / "egg.safetensors")
    say(there, [tmp_path / "a.wav"], tmp_path / "there.mkv", acting, lossless=True)
    pairs = zip(FrameReader(tmp_path / "here.mkv"), FrameReader(tmp_path / "there.mkv"), strict=True)
    assert [np.array_equal(a, b) for a, b in pairs] == [True] * 50
    pairs = zip(stream(talker.still(frame), [sound()]), stream(there, [sound()]), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_the_command_line_says_it_without_a_project(talker: Talker, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", sound()[:9600])
    (tmp_path / "bad.wav").write_text("")
    talker.save(tmp_path / "egg.safetensors")
    call = [sys.executable, "-m", "flows.cli", "say", "egg.safetensors", "a.wav", "bad.wav", "-o", "out", "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAUSSTALK")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 3, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["video"], row["pictures"]) for row in rows] == [("out/a.mp4", 15), ("out/bad.mp4", 0)]
    assert "the file is empty" in rows[1]["error"]
    assert "1 of 2 recordings could not be said" in done.stderr
    assert len(list(FrameReader(tmp_path / "out" / "a.mp4"))) == 15


def test_the_command_line_says_it_with_a_face_that_sound_moves_less_or_more(talker: Talker, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", sound()[:9600])
    talker.articulating(1.5).save(tmp_path / "egg.safetensors")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAUSSTALK")}
    moved = []
    for more in ([], ["--articulation", "1.5"], ["--articulation", "1"], ["--articulation", "0"]):
        call = [sys.executable, "-m", "flows.cli", "say", "egg.safetensors", "a.wav", "-o", "out.mkv", "--lossless"]
        call += ["--neutral", "--blinks", "none", *more]
        subprocess.run(call, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, check=True, timeout=300)
        moved.append(float(np.stack(list(FrameReader(tmp_path / "out.mkv"))).std(0).mean()))
    own, same, learnt, still = moved
    assert own == same > learnt > still == 0


def test_the_head_that_is_meant_is_the_first_that_the_project_lists(tmp_path: Path) -> None:
    places = make_speaking_egg(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    places.params.write_text("extractors: [logmel_embedding, logmel]\n")  # the second has been trained, long ago
    (tmp_path / "a.wav").touch()
    for words in (["say", "egg", "a.wav", "-o", "out.mp4"], ["export", "egg", "-o", "out"]):
        call = [sys.executable, "-m", "flows.cli", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "GAUSSTALK_ROOT": str(tmp_path)}
        told = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert told.returncode == InputError.exit_code
        assert "egg has no head for logmel_embedding" in told.stderr
        assert "or --extractor logmel" in told.stderr


def test_a_head_that_hears_by_weights_says_where_they_are_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data/assets.toml: no such file") as error:
        Hearing.open("logmel_embedding", AudioParams(), Places(tmp_path))
    assert "gausstalk fetch" in error.value.fix


def test_a_head_hears_as_much_sound_as_it_was_trained_with(tmp_path: Path) -> None:
    places = make_speaking_egg(tmp_path)
    before = Talker.of(places, "egg").audio
    places.params.write_text("audio: {window: 8}\nrender: {crf: 4}\n")  # for the next training
    assert Talker.of(places, "egg").audio == before
    assert before.window == 16


def test_a_say_that_is_told_to_end_leaves_nothing_half_written(talker: Talker, tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", np.tile(sound(), 150))
    talker.save(tmp_path / "egg.safetensors")
    call = [sys.executable, "-m", "flows.cli", "say", "egg.safetensors", "long.wav", "-o", "out/long.mp4"]
    saying = subprocess.Popen(
        call, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    while not list(tmp_path.glob("out/.long.mp4.part-*")):
        assert saying.poll() is None
        time.sleep(0.05)
    saying.terminate()
    told = saying.communicate(timeout=60)[1]
    assert saying.returncode == 130
    assert told.endswith("interrupted\n")
    assert not list((tmp_path / "out").iterdir())


def test_the_basis_travels_with_the_file_and_is_checked_where_it_is_used(tmp_path: Path) -> None:
    places = make_speaking_egg(tmp_path / "project")
    write_wav(tmp_path / "a.wav", sound()[:6400])
    path = tmp_path / "egg.safetensors"
    write_person(places, "research")
    Talker.of(places, "egg").save(path)
    assert read_header(path)["meta"]["person"]["research"]["source"] == "an archive"
    assert path.stat().st_mode == (tmp_path / "a.wav").stat().st_mode  # others may read it as they may any new file
    say(Talker.load(path), [tmp_path / "a.wav"], tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert "private evaluation only" in container.metadata["comment"]
        assert container.metadata["basis"] == "research"
    write_person(places, "consent")
    person = Talker.of(places, "egg").person
    assert person.consent is not None
    expired = person.consent.model_copy(update={"expiry": person.consent.date})
    whole = Talker.of(places, "egg")
    talkers.replace(whole, person=person.model_copy(update={"consent": expired})).save(path)
    with pytest.raises(ConsentError, match="expired"):
        Talker.load(path)


def test_a_large_head_is_halved_and_hardly_looks_different(
    talker: Talker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = talker.save(tmp_path / "whole.safetensors")
    assert whole < 30_000_000
    monkeypatch.setattr(talkers, "LARGEST", whole // 2)
    half = talker.save(tmp_path / "half.safetensors")
    assert half < 0.65 * whole
    assert "although its numbers have been halved" in caplog.text
    one, other = (Talker.load(tmp_path / f"{name}.safetensors") for name in ("whole", "half"))
    for a, b in zip(stream(one, [sound()[:8000]]), stream(other, [sound()[:8000]]), strict=True):
        difference = np.abs(a.astype(int) - b)
        assert difference.mean() < 1


def test_what_is_no_head_file_is_refused(talker: Talker, places: Places, tmp_path: Path) -> None:
    path = tmp_path / "egg.safetensors"
    with pytest.raises(InputError, match="no such file"):
        Talker.load(path)
    with pytest.raises(InputError, match="holds a Weights"):
        Talker.load(places.record("tg_fuse", Keys("egg", "logmel")) / "record.safetensors")
    with pytest.raises(InputError, match="holds a AudioFeatures"):
        Talker.load(places.record("audio", Keys("egg", "logmel")) / "record.safetensors")
    talker.save(path)
    header, arrays = read_header(path), load_file(path)

    def rewritten(**meta: object) -> Path:
        changed = {**header, "meta": {**header["meta"], **meta}}
        save_file(arrays, path, {"gausstalk": json.dumps(changed)})
        return path

    with pytest.raises(InputError, match="made with revision 0 of logmel"):
        Talker.load(rewritten(revision="0"))
    save_file(arrays, path, {"gausstalk": json.dumps({**header, "version": 1})})
    with pytest.raises(InputError, match="version 1 of an exported head") as error:
        Talker.load(path)
    assert "gausstalk export SPEAKER" in error.value.fix
    with pytest.raises(UsageError, match="basis: Field required"):
        Talker.load(rewritten(person={"name": "x"}))
    changed = {**header, "meta": {key: value for key, value in header["meta"].items() if key != "config"}}
    save_file(arrays, path, {"gausstalk": json.dumps(changed)})
    with pytest.raises(InputError, match="not a whole head"):
        Talker.load(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError):
        Talker.load(path)


def vertices(path: Path) -> tuple[list[str], np.ndarray]:
    header, body = path.read_bytes().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    return lines, np.frombuffer(body, "<f4").reshape(-1, 62)


def test_export_writes_the_head_as_it_lies_in_frames(places: Places, talker: Talker, tmp_path: Path) -> None:
    written = export(places, talker, tmp_path, [0, 30])
    names = sorted(str(path.relative_to(tmp_path)) for path in written)
    fields = ["face.ply", "head.ply", "mouth.ply"]
    folders = ["canonical", "frame_000000", "frame_000030"]
    assert names == sorted(["egg.safetensors", *(f"{folder}/{field}" for folder in folders for field in fields)])
    head = TalkingHead(talker.weights)
    windows = list(audio_windows(AudioFeatures.load(places.record("audio", Keys("egg", "logmel"))).values))
    motion = head.move(windows[30], talker.scene.expression[30])
    lines, face = vertices(tmp_path / "frame_000030" / "face.ply")
    moved = (head.face.gaussians.means + motion[0].means).detach() * torch.tensor(AXES)
    np.testing.assert_allclose(face[:, :3], moved, atol=1e-7)
    rest = vertices(tmp_path / "canonical" / "face.ply")[1]
    assert np.abs(rest[:, :3] - face[:, :3]).max() > 1e-4
    np.testing.assert_array_equal(rest[:, 6:54], face[:, 6:54])  # colours never change
    both = vertices(tmp_path / "frame_000030" / "head.ply")[1]
    assert len(both) == len(face) + len(head.mouth.gaussians)
    comments = "\n".join(line for line in lines if line.startswith("comment"))
    for wanted in ("face of egg, frame 30", "basis: synthetic", "talking_gaussian, logmel", "y down"):
        assert wanted in comments


def test_a_deformed_field_is_drawn_as_the_field_deformed(talker: Talker) -> None:
    head, camera = TalkingHead(talker.weights), talker.scene.camera(22)
    motion = head.move(torch.rand(8, 80, 16), talker.scene.expression[22])
    with torch.no_grad():
        for branch, moved in zip((head.face, head.mouth), motion, strict=True):
            wanted, found = draw(branch.gaussians, camera, moved), draw(deformed(branch.gaussians, moved), camera)
            torch.testing.assert_close(found.image, wanted.image)


def test_opacity_and_colour_that_change_from_frame_to_frame_are_written_too(talker: Talker) -> None:
    field, camera = TalkingHead(talker.weights).face.gaussians, talker.scene.camera(22)
    count, generator = len(field), torch.Generator().manual_seed(1)
    with torch.no_grad():
        field.harmonics *= 0  # no colour is cut off at black
        moved = Deformation(
            0.005 * torch.randn(count, 3, generator=generator),
            raw_opacities=torch.randn(count, generator=generator),
            colors=0.1 * torch.rand(count, 3, generator=generator),
        )
        still, wanted, found = draw(field, camera), draw(field, camera, moved), draw(deformed(field, moved), camera)
    assert (still.image - wanted.image).abs().max() > 0.05
    torch.testing.assert_close(found.image, wanted.image)


def test_in_the_merged_file_the_face_hides_the_mouth_as_it_does_here(tmp_path: Path) -> None:
    from dataclasses import replace

    from models.gaussians.field import create_field
    from tasks.export import SUNK_M

    grid = np.stack(np.meshgrid(np.linspace(-0.03, 0.03, 25), np.linspace(-0.03, 0.03, 25)), -1).reshape(-1, 2)
    lips = np.concatenate([grid, np.full((len(grid), 1), 0.08)], 1)
    hole = lips[np.abs(lips[:, 1]) > 0.008]
    face = create_field(hole, np.full((len(hole), 3), [0.8, 0.5, 0.4]), 0, opacity=0.99)
    mouth = create_field(lips + [0, 0, 0.004], np.full((len(lips), 3), [0.3, 0.0, 0.1]), 0, opacity=0.99)
    view = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0.6], [0, 0, 0, 1]])
    camera = Camera(view, torch.tensor([[400.0, 0, 24], [0, 400.0, 24], [0, 0, 1]]), 48, 48)
    with torch.no_grad():
        wanted = compose(draw(face, camera), draw(mouth, camera), torch.zeros(48, 48, 3))
        errors = []
        for depth in (0.0, SUNK_M):
            sunk = replace(mouth, means=mouth.means - torch.tensor([0, 0, depth]))
            both = replace(
                face, **{name: torch.cat([tensor, face.tensors()[name]]) for name, tensor in sunk.tensors().items()}
            )
            errors.append((draw(both, camera).image - wanted).abs().mean().item())
    assert errors[0] > 0.05  # sorted by depth, the mouth would be all over the lips
    assert errors[1] < 0.01


def test_frames_are_listed_as_a_person_writes_them(places: Places, talker: Talker, tmp_path: Path) -> None:
    assert parse_frames("3,10:13,0:10:5,3") == [3, 10, 11, 12, 0, 5]
    assert parse_frames("") == []
    for text in ("x", "1:2:3:4", "1:2:0", "3,:,4", "0:99999999", "5:2", "3,4:4", ",,"):
        with pytest.raises(UsageError, match="--frames"):
            parse_frames(text)
    with pytest.raises(UsageError) as error:
        parse_frames("abc")
    assert error.value.why.startswith("a frame is a whole number")  # and nothing about literals
    with pytest.raises(UsageError, match="no frame 44"):
        export(places, talker, tmp_path / "new", [44])
    with pytest.raises(UsageError, match="frame 44 cannot be held") as error:
        export(places, talker, tmp_path / "new", still=44)
    quiet = talker.scene.quiet_frame()
    assert error.value.fix == f"leave --still out: frame {quiet} is taken"
    assert not (tmp_path / "new").exists()


def test_a_head_is_not_exported_into_a_file(places: Places, talker: Talker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UsageError, match="that is a file"):
        export(places, talker, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
