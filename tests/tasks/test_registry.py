import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from clips import make_clip

from models.errors import ConsentError, InputError, UsageError
from tasks import registry
from tasks.media import write_wav
from tasks.params import read_yaml
from tasks.people import load_drive, load_speaker
from tasks.places import Places
from tasks.registry import add_drive, add_speaker
from tasks.removal import belongings, remove_speaker

ROOT = Path(__file__).resolve().parents[2]
TODAY = datetime.date.today()
DAY = datetime.timedelta(days=2)  # midnight may pass while the tests run


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A project with the real params.yaml and dvc.yaml, without data."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    return Places(root)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "Holiday (1).MP4", seconds=1.0)


@pytest.fixture
def consent(tmp_path: Path) -> Path:
    (tmp_path / "signed.pdf").write_bytes(b"I agree. Ann")
    path = tmp_path / "consent.yaml"
    record = {"basis": "consent", "who": "Ann Example", "scope": "this test", "evidence": "signed.pdf"}
    record |= {"date": TODAY - DAY, "expiry": TODAY + DAY}
    path.write_text(yaml.safe_dump(record))
    return path


def everything(places: Places) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(places.root.rglob("*")) if path.is_file()}


def test_a_speaker_is_copied_recorded_and_listed(places: Places, video: Path, consent: Path, tmp_path: Path) -> None:
    before = video.read_bytes()
    text = places.params.read_text()
    other = make_clip(tmp_path / "other.mp4", seconds=0.6)
    add_speaker(places, "ann", [video, other], consent, "de", "female")
    record = load_speaker(places, "ann")
    assert record.sources == ["01.mp4", "02.mp4"]
    assert (record.basis, record.language, record.gender) == ("consent", "de", "female")
    assert record.consent is not None
    assert record.consent.evidence_sha256 == hashlib.sha256(b"I agree. Ann").hexdigest()
    copy = places.raw_speaker("ann") / "01.mp4"
    assert copy.read_bytes() == before
    assert copy.stat().st_ino != video.stat().st_ino
    assert copy.stat().st_nlink == 1
    assert read_yaml(places.params)["speakers"] == ["demo", "ann"]
    # Every other line of params.yaml, comments included, is as it was.
    old, new = text.splitlines(), places.params.read_text().splitlines()
    assert [(a, b) for a, b in zip(old, new, strict=True) if a != b] == [("speakers: [demo]", "speakers: [demo, ann]")]


def test_the_record_never_names_the_evidence_file(places: Places, video: Path, consent: Path) -> None:
    add_speaker(places, "ann", [video], consent)
    assert "signed.pdf" not in places.speaker_record("ann").read_text()


@pytest.mark.parametrize("name", ["../x", "", "A", "a b;rm", "ä", "a" * 49, "-a", "drives", "a/b", "a.b"])
def test_a_name_that_cannot_be_a_folder_is_refused_with_the_rule(
    places: Places, video: Path, consent: Path, name: str
) -> None:
    before = everything(places)
    with pytest.raises(UsageError, match="cannot name") as error:
        add_speaker(places, name, [video], consent)
    assert "a-z, 0-9 and _" in error.value.why
    assert everything(places) == before


def test_what_is_there_stays_unless_it_is_to_be_replaced(places: Places, video: Path, consent: Path) -> None:
    add_speaker(places, "ann", [video], consent)
    before = everything(places)
    with pytest.raises(UsageError, match="is there already"):
        add_speaker(places, "ann", [video], consent)
    assert everything(places) == before
    add_speaker(places, "ann", [video], consent, replace=True)
    assert sorted(path.name for path in places.raw_speaker("ann").iterdir()) == ["01.mp4"]
    assert read_yaml(places.params)["speakers"] == ["demo", "ann"]


@pytest.mark.parametrize(
    ("language", "fix"),
    [
        ("english", "did you mean 'en'?"),
        ("Chinese", "did you mean 'zh'?"),
        ("de-CH", "did you mean 'de'?"),
        ("EN", "did you mean 'en'?"),
        ("sp", "did you mean 'es'?"),
        ("cn", "look it up in ISO 639-1; '' leaves it unsaid"),
    ],
)
def test_a_language_is_told_by_its_code(
    places: Places, video: Path, consent: Path, tmp_path: Path, language: str, fix: str
) -> None:
    before = everything(places)
    write_wav(tmp_path / "speech.wav", np.ones(16000, np.int16), 16000)
    with pytest.raises(UsageError, match="no code of ISO 639-1") as error:
        add_speaker(places, "ann", [video], consent, language)
    assert (error.value.why, error.value.fix) == (f"the value is {language!r}", fix)
    with pytest.raises(UsageError, match="no code of ISO 639-1"):
        add_drive(places, "talk", tmp_path / "speech.wav", language, "research")
    assert everything(places) == before


def test_a_language_in_a_record_written_by_hand_is_looked_at_too(places: Places, video: Path, consent: Path) -> None:
    add_speaker(places, "ann", [video], consent, "no")
    record = places.speaker_record("ann")
    text = record.read_text()
    record.write_text(text.replace("'no'", "no"))  # YAML reads that as false
    assert load_speaker(places, "ann").language == "no"
    record.write_text(text.replace("'no'", "norwegian"))
    with pytest.raises(UsageError, match=r"speakers/ann\.yaml: language: no code of ISO 639-1") as error:
        load_speaker(places, "ann")
    assert error.value.fix == "did you mean 'no'?"
    record.write_text(text.replace("'no'", "''"))
    assert load_speaker(places, "ann").language == ""


def test_a_record_without_a_valid_basis_is_mended_by_the_name_in_the_project(
    places: Places, video: Path, consent: Path
) -> None:
    add_speaker(places, "ann", [video], consent)
    record = places.speaker_record("ann")
    record.write_text(
        record.read_text().replace("name: ann", "name: Ann Example").replace(str(TODAY + DAY), "2020-01-01")
    )
    with pytest.raises(ConsentError, match="Ann Example: the consent expired") as error:
        load_speaker(places, "ann")
    assert error.value.fix.startswith("gausstalk add-speaker ann VIDEO")


def test_drives_that_are_added_at_once_are_all_listed(places: Places, tmp_path: Path) -> None:
    sound = tmp_path / "speech.wav"
    write_wav(sound, np.ones(16000, np.int16), 16000)
    names = [f"talk_{number}" for number in range(6)]
    code = (
        "import sys; from pathlib import Path; from tasks.places import Places; from tasks.registry import add_drive; "
    )
    code += "sys.stdin.read(); add_drive(Places(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]), 'de', 'research')"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(places.root), name, str(sound)], cwd=ROOT, stdin=subprocess.PIPE
        )
        for name in names
    ]
    for process in running:  # all are ready: go
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in running] == [0] * len(names)
    assert set(names) <= set(read_yaml(places.params)["drives"])


def test_what_a_stage_makes_is_not_replaced(places: Places, video: Path, consent: Path) -> None:
    with pytest.raises(UsageError, match="made by a stage"):
        add_speaker(places, "demo", [video], consent, replace=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expiry": TODAY - DAY}, "expired"),
        ({"date": TODAY + DAY, "expiry": TODAY + 2 * DAY}, "begins on"),
        ({"evidence": "nowhere.pdf"}, "no such file"),
        ({"scope": ""}, "scope missing"),
        ({"evidence": ""}, "evidence missing"),
        ({"basis": "research"}, "source, reason missing"),
    ],
)
def test_without_a_basis_nothing_is_written(
    places: Places, video: Path, consent: Path, change: dict[str, object], message: str
) -> None:
    record = yaml.safe_load(consent.read_text()) | change
    consent.write_text(yaml.safe_dump(record))
    before = everything(places)
    with pytest.raises(ConsentError, match=message) as error:
        add_speaker(places, "ann", [video], consent)
    assert error.value.exit_code == 4
    assert everything(places) == before


def test_a_misspelt_key_of_the_consent_is_named(places: Places, video: Path, consent: Path) -> None:
    consent.write_text(consent.read_text().replace("scope:", "skope:"))
    with pytest.raises(UsageError, match="skope") as error:
        add_speaker(places, "ann", [video], consent)
    assert "'scope'" in error.value.fix


def test_research_needs_no_consent_but_says_where_it_is_from(places: Places, video: Path, consent: Path) -> None:
    consent.write_text("basis: research\nsource: a film\nreason: to compare\n")
    add_speaker(places, "ann", [video], consent)
    record = load_speaker(places, "ann")
    assert record.research is not None
    assert record.research.source == "a film"


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "silent"])
def test_a_video_that_cannot_be_used_is_refused_before_anything_is_written(
    places: Places, video: Path, consent: Path, tmp_path: Path, kind: str
) -> None:
    bad = tmp_path / "bad.mp4"
    if kind == "text":
        bad.write_text("no video")
    if kind == "cut":
        bad.write_bytes(video.read_bytes()[:400])
    if kind == "silent":
        make_clip(bad, seconds=0.4, sound=np.zeros(0, np.int16))
    before = everything(places)
    with pytest.raises(InputError):
        add_speaker(places, "ann", [video, bad], consent)
    assert everything(places) == before


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("broken", ["record", "params"])
def test_whatever_fails_on_the_way_everything_is_as_before(
    places: Places, video: Path, consent: Path, monkeypatch: pytest.MonkeyPatch, broken: str, replace: bool
) -> None:
    if replace:
        add_speaker(places, "ann", [video], consent)
    before = everything(places)
    real = os.replace

    def failing(source: Path, target: Path) -> None:
        wanted = places.speaker_record("ann") if broken == "record" else places.params
        if Path(target) == wanted and ".new-" in str(source):
            raise OSError(28, "no space left")
        real(source, target)

    monkeypatch.setattr(registry.os, "replace", failing)
    with pytest.raises(OSError, match="no space left"):
        add_speaker(places, "ann", [video], consent, replace=replace)
    assert everything(places) == before


def test_params_yaml_is_there_all_the_time(places: Places, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.replace

    def watched(source: Path, target: Path) -> None:
        real(source, target)
        assert places.params.is_file()

    monkeypatch.setattr(registry.os, "replace", watched)
    add_drive(places, "fr_f", video, "fr", "research")
    assert "fr_f" in read_yaml(places.params)["drives"]


def test_a_drive_is_copied_recorded_and_listed(places: Places, video: Path) -> None:
    add_drive(places, "fr_f", video, "fr", "research", "female", "a film")
    record = load_drive(places, "fr_f")
    assert (record.source, record.basis, record.note) == ("speech.mp4", "research", "a film")
    assert read_yaml(places.params)["drives"][-1] == "fr_f"
    with pytest.raises(InputError):
        add_drive(places, "none", places.params, "en", "synthetic")
    assert not places.drive_record("none").exists()


def test_a_recording_given_twice_is_refused(places: Places, video: Path, consent: Path, tmp_path: Path) -> None:
    """Under another name, too: the end of the clip is what a head is tested on."""
    again = tmp_path / "again.mp4"
    shutil.copy(video, again)
    before = everything(places)
    with pytest.raises(InputError, match=r"again.mp4: given twice"):
        add_speaker(places, "ann", [video, again], consent)
    assert everything(places) == before


def test_a_drive_that_was_cut_off_is_taken_and_told_of(
    places: Places, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_wav(tmp_path / "a.wav", np.ones(32000, np.int16))
    os.truncate(tmp_path / "a.wav", 44 + 32000)
    add_drive(places, "short", tmp_path / "a.wav", "en", "synthetic")
    assert "a.wav: its header promises 2.0 s of sound, 1.0 s are there" in caplog.text


def test_a_silent_drive_is_taken_and_told_of(places: Places, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(32000, np.int16))
    add_drive(places, "silent", tmp_path / "a.wav", "en", "synthetic")
    assert "a.wav: silent from beginning to end" in caplog.text


def test_a_drive_in_which_nothing_can_be_said_is_refused(places: Places, tmp_path: Path) -> None:
    write_wav(tmp_path / "click.wav", np.zeros(1600, np.int16))
    with pytest.raises(InputError, match=r"0.10 s of sound"):
        add_drive(places, "click", tmp_path / "click.wav", "en", "synthetic")
    assert "click" not in read_yaml(places.params)["drives"]


@pytest.mark.parametrize("text", ["", "only words", "- a\n- list\n", "basis: [consent\n", "basis: trust me\n", None])
def test_every_unusable_consent_file_says_why_and_what_to_do(
    places: Places, video: Path, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "consent.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as error:
        add_speaker(places, "ann", [video], path)
    assert error.value.why
    assert error.value.fix


@pytest.mark.parametrize(
    "listed", ["[demo, 007, no, 'on', ann]", "[demo, 'on', 010, 007, no, ]", "\n- 007\n- no # he\n"]
)
def test_a_name_that_is_no_text_can_be_removed_and_the_others_stay_as_written(places: Places, listed: str) -> None:
    places.params.write_text(f"speakers: {listed}\nimports: {{}}\n")
    names = yaml.load(places.params.read_text(), Loader=yaml.BaseLoader)["speakers"]
    places.speaker_record("no").parent.mkdir(parents=True)
    places.speaker_record("no").write_text("name: 'no'\n")  # of 007 nothing but the name is there
    for name in ("007", "no"):
        assert remove_speaker(places, name)
        names.remove(name)
        assert yaml.load(places.params.read_text(), Loader=yaml.BaseLoader)["speakers"] == names
    assert not places.speaker_record("no").exists()


def test_the_command_adds_a_speaker_and_says_what_it_wrote(places: Places, video: Path, consent: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "add-speaker", "ann", str(video), "--consent", str(consent), "--json"]
        + ["--head-model", "flame"],
        env={**os.environ, "GAUSSTALK_ROOT": str(places.root)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    written = ["data/raw/speakers/ann/01.mp4", "data/speakers/ann.yaml", "params.yaml"]
    assert json.loads(done.stdout) == {"written": written}
    # The short name stands for the one release whose licence is open; the record says which.
    assert yaml.safe_load((places.root / "data/speakers/ann.yaml").read_text())["head_model"] == "flame2023_open"


def test_where_a_removed_speaker_is_still_listed_is_told(
    places: Places, video: Path, consent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_speaker(places, "ann", [video], consent)
    text = places.params.read_text().replace("left_out: []", "left_out: [ann, demo]")
    places.params.write_text(text)
    remove_speaker(places, "ann")
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "params.yaml: take ann out of sync_house.left_out, too: no run begins while it stands there"
    ]


def test_a_removed_speaker_leaves_nothing_and_others_stay(places: Places, video: Path, consent: Path) -> None:
    add_speaker(places, "ann", [video], consent)
    before = everything(places)
    add_speaker(places, "ann2", [video], consent)
    stays = {path for path in everything(places) if "ann2" in path}
    for name in ("work/ann/ingest/record", "preview/ann/parse/strip.jpg", "metrics/ann/quality/quality.json"):
        for who in ("ann", "ann2"):
            path = places.root / "data" / name.replace("ann", who)
            path.parent.mkdir(parents=True)
            path.write_text("computed")
    scratches = ("tg_face/ann-logmel/abc/state", "landmarks/ann/abc/state", "tg_face/ann2-logmel/abc/state")
    for scratch in (*scratches, "compare/ann-1a2b-3c4d.html"):
        (places.root / ".work" / scratch).parent.mkdir(parents=True)
        (places.root / ".work" / scratch).write_text("half done")
    killed = places.root / ".work" / "private" / "ann-frames" / "output"  # a stage at work on her
    killed.mkdir(parents=True)
    raw = places.raw_speaker("ann")
    shutil.copytree(raw, raw.with_name(".ann.new-4711"))  # an addition that did not come to its end
    assert places.raw_speaker("ann") in belongings(places, "ann")
    text = places.params.read_text()
    places.params.write_text(text.replace("gaussian_talkers: []", "gaussian_talkers: [ann]"))
    removed = remove_speaker(places, "ann")
    assert places.params in removed
    assert read_yaml(places.params)["gaussian_talkers"] == []
    left = everything(places)
    assert not [path for path in left if "/ann/" in path or "/ann-" in path or path.endswith("/ann.yaml")]
    assert not raw.with_name(".ann.new-4711").exists()
    assert not killed.exists()
    assert stays <= set(left)
    assert len([path for path in left if "ann2" in path]) == len(stays) + 4
    assert read_yaml(places.params)["speakers"] == ["demo", "ann2"]
    remove_speaker(places, "ann2")
    add_speaker(places, "ann", [video], consent)
    assert {path: text for path, text in everything(places).items() if ".work" not in path} == before
    with pytest.raises(UsageError, match="no speaker 'bob'"):
        remove_speaker(places, "bob")
    with pytest.raises(UsageError) as error:
        load_speaker(places, "anna")
    assert error.value.fix == "did you mean 'ann'?"


def test_what_serves_the_project_goes_with_no_speaker(places: Places, video: Path, consent: Path) -> None:
    lock = places.root / ".work" / "run" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    add_speaker(places, "lock", [video], consent)
    assert lock not in belongings(places, "lock")


def test_a_speaker_that_a_stage_makes_is_not_removed(places: Places) -> None:
    with pytest.raises(UsageError, match="made by a stage"):
        remove_speaker(places, "demo")
    assert read_yaml(places.params)["speakers"] == ["demo"]


def test_removing_asks_first(places: Places, video: Path, consent: Path) -> None:
    add_speaker(places, "ann", [video], consent)
    environment = {**os.environ, "GAUSSTALK_ROOT": str(places.root), "PYTHONPATH": str(ROOT)}

    def call(answer: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "flows.cli", "remove-speaker", "ann", *words]
        return subprocess.run(command, env=environment, input=answer, capture_output=True, text=True, timeout=60)

    refused = call("n\n")
    assert refused.returncode != 0
    assert "data/raw/speakers/ann" in refused.stderr
    assert places.raw_speaker("ann").is_dir()
    done = call("", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert "data/speakers/ann.yaml" in json.loads(done.stdout)["removed"]
    assert not places.raw_speaker("ann").exists()
