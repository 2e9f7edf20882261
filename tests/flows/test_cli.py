import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from flows import cli, speaking
from flows.project import project as find_project
from models.errors import InputError
from tasks.places import Places
from tasks.say import Said

ROOT = Path(__file__).resolve().parents[2]
VERBS = "add-speaker remove-speaker add-drive check preview run say export ui fetch doctor bench report".split()
VERBS += "metrics publish dag import-predictions remove-predictions tables compare".split()


def call(folder: Path, *words: str, python: list[str] | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GAUSSTALK_ASSETS": "", "COLUMNS": "200"}
    environment.pop("GAUSSTALK_ROOT", None)
    command = [sys.executable, *(python or ["-m", "flows.cli"]), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without computed data."""
    (tmp_path / "params.yaml").write_text("speakers: []\nextractors: [logmel]\ndrives: []\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "assets.toml").write_text(
        '[weights]\nfile = "w.bin"\nurl = "https://localhost/w.bin"\nsha256 = "00"\nbytes = 2000000\n'
        'licence = "MIT"\nwhat = "some weights"\n'
    )
    (tmp_path / "a.wav").touch()
    return tmp_path


def test_help_lists_every_verb_and_imports_nothing_heavy(tmp_path: Path) -> None:
    text = "import sys; from flows.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    done = call(tmp_path, python=["-c", text])
    assert done.returncode == 0
    for verb in VERBS:
        assert f"  {verb} " in done.stdout
    heavy = {"numpy", "torch", "cv2", "av", "prefect", "dvc", "mlflow", "pandas", "pydantic"}
    assert heavy & set(done.stdout.split()) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(tmp_path: Path, verb: str) -> None:
    done = call(tmp_path, verb, "--help")
    assert done.returncode == 0
    assert "--help" in done.stdout


def test_a_phase_is_explained_as_a_table_and_as_json(project: Path) -> None:
    with (project / "params.yaml").open("a") as file:
        file.write("preset: released\nscale: 0.1\ntg_face: {phase: {lip_lpips: {weight: 0.05}}}\n")
    shown = call(project, "run", "--explain", "tg_face")
    assert shown.returncode == 0, shown.stderr
    assert "tg_face: 5000 steps, preset released with changes, steps x 0.1" in shown.stdout
    rows = {line.split()[0]: line.split()[1:] for line in shown.stdout.splitlines() if line}
    assert rows["hide_hair"] == ["301-4600", "1", "but", "every", "7"]
    assert rows["lip_lpips"] == ["4701-5000", "0.05"]
    assert "whole_frames yes" in shown.stdout
    assert "patch_px 32 to " in shown.stdout
    assert " > " not in shown.stdout
    assert "→: falls or rises to; rates: rates of learning; density: where" in shown.stdout
    told = json.loads(call(project, "run", "--explain", "tg_face", "--json").stdout)
    assert {"name": "alpha", "first": 301, "last": 5000, "says": "0.001"} in told["rows"]
    assert told["phase"]["alpha"]["weight"] == 0.001
    wrong = call(project, "run", "--explain", "parse")
    assert wrong.returncode == 2
    assert "tg_face" in wrong.stderr


def test_the_list_of_commands_breaks_no_line_off(tmp_path: Path) -> None:
    done = call(tmp_path, "--help")
    assert "..." not in done.stdout.partition("Commands:")[2]
    assert "[default: 0]" not in call(tmp_path, "run", "--help").stdout


def test_no_words_show_the_help(tmp_path: Path) -> None:
    assert "Commands:" in call(tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["add-speaker"], 2, "Missing argument"),
        (["fly"], 2, "No such command 'fly'"),
        (["run", "--jobs", "0"], 2, "--jobs"),
        (["run", "--explain", "tg_faces"], 2, "'tg_faces' does not train"),
        (["run", "--preset", "best", "--dry-run"], 2, "a preset is chosen by a whole run"),
        (["run", "ann", "--table", "7"], 2, "there is no table 7 to fill"),
        (["preview", "ann", "--stage", "parse", "-o", "out.gif"], 2, "out.gif: no place for a picture"),
        (["add-drive", "d", "d.wav", "--language", "de", "--gender", "x"], 2, "'x' is not one of female, male"),
        (["report"], 2, "there is no report yet"),
        (["tables"], 2, "nothing has been measured yet"),
        (["publish"], 2, "there is nothing to publish yet"),
        (["fetch"], 2, "no asset named"),
        (["fetch", "wieghts"], 2, "no asset 'wieghts'"),
        (["add-speaker", "../x", "a.mp4", "--consent", "c.yaml"], 2, "cannot name a speaker"),
        (["bench", "rastr"], 2, "no part 'rastr' of the bench"),
        (["bench", "grid", "--head", "ann"], 2, "part grid renders no head"),
        (["dag", "--check", "--write"], 2, "exclude each other"),
        (["say", "ann", "a.wav", "-o", "o.mp4"], 2, "no speaker 'ann'"),
        (["say", "ann", "b.wav", "-o", "o.mp4"], 3, "b.wav: no such file"),  # before the head is even looked for
        (["say", "ann", "a.wav", "-o", "o.mp4", "--blinks", "often"], 2, "--blinks often: neither own, none"),
        (["say", "ann", "a.wav", "-o", "o.mp4", "--blinks", "-3"], 2, "--blinks -3"),
        (["say", "ann", "a.wav", "-o", "o.mp4", "--articulation", "3.5"], 2, "--articulation"),
        (["say", "ann", "a.wav", "-o", "o.mp4", "--articulation", "nan"], 2, "--articulation"),
        (["say", "ann", "a.wav", "-o", "o.mp4", "--still", "--pose-from", "bob"], 2, "exclude each other"),
        (["say", "ann", "a.wav", "-o", "o.mp4", "--neutral", "--expression-from", "bob"], 2, "exclude each other"),
        (["say", "ann.safetensors", "a.wav", "-o", "o.mp4"], 3, "ann.safetensors: no such file"),
        (["export", "ann", "-o", "out"], 2, "no speaker 'ann'"),
        (["export", "ann", "-o", "out", "--method", "gaussiantalker"], 2, "GaussianTalker cannot be exported yet"),
        (["run", "ann", "--method", "gaussiantalke"], 2, "no method 'gaussiantalke'"),
        (["run", "ann", "--table", "5", "--method", "gaussiantalker"], 2, "table 5 is of TalkingGaussian alone"),
        (["say", "a.safetensors", "a.wav", "-o", "o.mp4", "--method", "gaussiantalker"], 2, "TalkingGaussian's"),
        (["say", "a.safetensors", "a.wav", "-o", "o.mp4", "--extractor", "hubert"], 2, "the file names the extractor"),
        (["say", "a.safetensors", "a.wav", "-o", "o.mp4", "--frame", "3"], 2, "an exported head has one pose"),
        (["say", "ann", "a.wav", "-o", "o.mp4", "--blinks", "9", "--seed", "-3"], 2, "--seed"),
        (["say", "ann", "a.wav", "-o", "o.mp4", "--pose-from", "bob", "--method", "gaussiantalker"], 2, "cannot act"),
        (["compare", "a", "b", "-o", "data"], 2, "data: that is a folder"),
    ],
)
def test_errors_say_what_and_end_with_the_documented_code(
    project: Path, words: list[str], code: int, message: str
) -> None:
    done = call(project, *words)
    assert done.returncode == code
    assert done.stdout == ""
    first = done.stderr.splitlines()[0]
    assert first.startswith("error: ")
    assert message in first
    assert done.stderr.splitlines()[-1].startswith("fix:   ")
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_project(tmp_path: Path) -> None:
    done = call(tmp_path, "metrics")
    assert done.returncode == 2
    assert "is no gausstalk project" in done.stderr
    assert "fix:   cd into a checkout" in done.stderr


def test_verbose_shows_the_traceback(project: Path) -> None:
    assert "Traceback" in call(project, "-v", "report").stderr


def test_the_project_is_found_from_a_folder_inside_it(project: Path) -> None:
    assert call(project / "data", "metrics", "--json").stdout == "[]\n"


def test_relative_folders_are_the_same_for_what_is_started_in_another(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    monkeypatch.setenv("GAUSSTALK_ROOT", project.name)
    monkeypatch.setenv("GAUSSTALK_ASSETS", "assets")
    assert find_project() == Places(project)
    assert os.environ["GAUSSTALK_ROOT"] == str(project)
    assert os.environ["GAUSSTALK_ASSETS"] == str(project.parent / "assets")
    monkeypatch.setenv("GAUSSTALK_ASSETS", "")  # none, not the folder that somebody stands in
    find_project()
    assert os.environ["GAUSSTALK_ASSETS"] == ""


def test_metrics_gives_the_rows_of_all_files(project: Path) -> None:
    rows = [
        {"speaker": "ann", "method": "m", "metric": "psnr", "value": 30.5, "unit": "dB"},
        {"speaker": "bob", "method": "m", "metric": "psnr", "value": 31.25, "unit": "dB"},
    ]
    for row in rows:
        folder = project / "data" / "metrics" / str(row["speaker"]) / "evaluate"
        folder.mkdir(parents=True)
        (folder / "x.json").write_text(json.dumps({"rows": [row]}))
    given = json.loads(call(project, "metrics", "--json").stdout)
    for row, wanted in zip(given, rows, strict=True):
        # Every row has the same keys, whatever was measured.
        assert set(row) >= {"speaker", "method", "extractor", "split", "drive", "region", "unit", "better"}
        assert {key: value for key, value in row.items() if value != ""} == wanted
    assert json.loads(call(project, "metrics", "bob", "--json").stdout) == given[1:]
    assert "31.25" in call(project, "metrics").stdout
    unknown = call(project, "metrics", "bod")
    assert unknown.returncode == 2
    assert "measured: ann, bob" in unknown.stderr


def test_a_project_without_numbers_says_so(project: Path) -> None:
    assert "nothing has been measured yet" in call(project, "metrics").stderr


def test_a_wrong_option_leads_to_the_help_of_its_verb(project: Path) -> None:
    assert "fix:   gausstalk run --help" in call(project, "run", "--foo").stderr
    assert "fix:   gausstalk --help" in call(project, "--foo").stderr


def test_fetch_lists_what_is_here_and_what_is_not(project: Path) -> None:
    listed = json.loads(call(project, "fetch", "--list", "--json").stdout)
    assert [(entry["name"], entry["here"], entry["bytes"]) for entry in listed] == [("weights", False, 2_000_000)]
    toml = project / "data" / "assets.toml"
    toml.write_text(
        toml.read_text() + '[model]\nfile = "m.npz"\nlicence = "by registration"\nwhat = "a head"\noptional = true\n'
        'page = "https://example.org/model"\nsources = [{ file = "m.pkl" }]\n[w2]\nfile = "w2"\nlicence = "MIT"\n'
        'what = "more"\nuse = "parse"\noptional = true\nurl = "https://localhost/w2"\nat_most = 3000000\n'
    )
    lines = [line.split("  ") for line in call(project, "fetch", "--list").stdout.splitlines()]
    cells = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    assert cells["weights"] == ["missing", "2.0 MB", "MIT", "some weights", "localhost"]
    assert cells["model"] == ["by hand", "unknown", "by registration", "a head", "example.org"]
    assert cells["w2"] == ["optional", "unknown, at most 3.0 MB", "MIT", "parse", "localhost"]


def test_assets_that_no_default_needs_are_one_line_of_the_doctor(project: Path) -> None:
    entry = 'licence = "MIT"\nwhat = "more"\noptional = true\nurl = "https://localhost/w"\n'
    (project / "data" / "assets.toml").write_text(f'[a]\nfile = "a"\n{entry}[b]\nfile = "b"\n{entry}')
    findings = json.loads(call(project, "doctor", "--json").stdout)["findings"]
    found = [finding for finding in findings if "asset" in finding["name"]]
    assert [(finding["name"], finding["state"]) for finding in found] == [("assets", "ok")]
    assert "optional, not here: a, b" in found[0]["found"]


def test_doctor_finds_what_is_wrong_with_a_project(project: Path) -> None:
    params = "speakers: [ann, bob]\nextractors: []\ndrives: [de]\npreset: cup\ntg_face:\ntg_mouth:\nnonsense: {a: 1}\n"
    (project / "params.yaml").write_text(params)
    done = call(project, "doctor", "--json")
    assert done.returncode == 5
    result = json.loads(done.stdout)
    assert result["ok"] is False
    found = {finding["name"]: finding for finding in result["findings"]}
    assert found["python"]["state"] == "ok"
    assert found["asset weights"]["fix"] == "gausstalk fetch weights"
    wrong = [finding["found"] for finding in result["findings"] if finding["name"] == "params"]
    assert sum("no stage 'nonsense'" in one for one in wrong) == sum("no preset 'cup'" in one for one in wrong) == 1
    assert len(wrong) == 2
    assert "not " + str(project) in found["project"]["found"]  # the code that runs is that of another folder
    for name in ("speaker ann", "speaker bob", "drive de"):  # one that is wrong does not hide the others
        assert (found[name]["state"], found[name]["found"][:3]) == ("fail", "no ")
    (project / "params.yaml").write_text("speakers: [\n")
    findings = json.loads(call(project, "doctor", "--json").stdout)["findings"]
    assert any("not valid YAML" in finding["found"] and "line 2" in finding["found"] for finding in findings)


def test_of_recordings_that_cannot_be_said_nothing_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    bad = [Said(Path(f"{name}.wav"), Path(f"{name}.mp4"), 0, InputError(f"{name}.wav: no sound")) for name in "ab"]
    with pytest.raises(typer.Exit) as end:
        speaking._tell(bad, False)
    assert end.value.exit_code == 3
    assert capsys.readouterr().out == ""
    with pytest.raises(typer.Exit):
        speaking._tell([*bad, Said(Path("c.wav"), Path("c.mp4"), 9)], False)
    assert capsys.readouterr().out == "c.mp4\n"


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (errno.ENOSPC, 5, "the disk is full"),
        (errno.EROFS, 5, "cannot be read or written"),
        (errno.EACCES, 5, "cannot be read or written"),
        (errno.EISDIR, 1, "fault of gausstalk"),
    ],
)
def test_a_full_or_locked_disk_is_no_fault_of_gausstalk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int, says: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/somewhere")

    monkeypatch.setattr(cli, "app", fail)
    assert cli._guarded() == code
    assert says in capsys.readouterr().err


def test_outside_of_any_project_the_checkout_has_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.project import nearest_project

    inner = tmp_path / "project" / "sounds"
    inner.mkdir(parents=True)
    for folder, found in ((tmp_path, ROOT), (inner, inner.parent)):
        monkeypatch.delenv("GAUSSTALK_ROOT", raising=False)
        monkeypatch.chdir(folder)
        (tmp_path / "project" / "params.yaml").touch()
        (tmp_path / "project" / "dvc.yaml").touch()
        assert nearest_project().root == found
    monkeypatch.delenv("GAUSSTALK_ROOT")
