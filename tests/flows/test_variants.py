"""A table runs the graph once for every variant, and leaves the project as it was."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows import start, variants
from models.errors import BusyError
from tasks.params_file import choose_preset
from tasks.places import Places
from tasks.put_away import put_back

TOY = """
import json, pathlib, sys, yaml
moves = yaml.safe_load(open("params.yaml"))["tg_motion"]["moves"]
with open("log.txt", "a") as log:
    log.write(moves + "\\n")
if moves == pathlib.Path("fails.txt").read_text():
    sys.exit("no")
folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True)
(folder / "metrics.json").write_text(json.dumps({"about": {"moves": moves}, "rows": []}))
"""
PARAMS = "# what a person wrote\nspeakers: [ada]\nextractors: [logmel]\ntg_motion: {moves: geometry}\n"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A project of one stage; the graph is run by `dvc repro`, without Prefect."""
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "fails.txt").write_text("")
    (tmp_path / "params.yaml").write_text(PARAMS)
    out = "data/metrics/ada/evaluate/logmel"
    (tmp_path / "dvc.yaml").write_text(
        f"stages:\n  evaluate:\n    cmd: {sys.executable} toy.py {out}\n    deps: [toy.py, fails.txt]\n"
        f"    params: [tg_motion]\n    outs: [{out}]\n"
    )

    def dvc(*words: str) -> int:
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    def run(_places: Places, speakers: Any, extractors: Any, jobs: int, _method: Any) -> dict[str, Any]:
        code = dvc("repro")
        return {"states": {}, "seconds": {}, "errors": [{"stage": "evaluate"}] * bool(code), "exit_code": code}

    assert dvc("init", "--no-scm") == 0
    monkeypatch.setattr(start, "run", run)
    return Places(tmp_path)


def test_every_variant_is_kept_and_going_back_computes_nothing(places: Places) -> None:
    outcome = variants.fill(places, 5, "ada", (), 1)
    assert (outcome["exit_code"], outcome["errors"]) == (0, [])
    found = sorted((places.root / "data/metrics/ada/variants/table_5").glob("*/metrics.json"))
    moves = [json.loads(path.read_text())["about"]["moves"] for path in found]
    assert moves == ["geometry", "opacity", "color"]
    assert places.params.read_text() == PARAMS
    now = json.loads((places.root / "data/metrics/ada/evaluate/logmel/metrics.json").read_text())
    assert now["about"]["moves"] == "geometry"
    assert (places.root / "log.txt").read_text().split() == ["geometry", "opacity", "color"]


def test_a_variant_that_fails_does_not_stop_the_others(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    last = variants.variants_of(5, ["logmel"])[1:]
    monkeypatch.setattr(variants, "variants_of", lambda *_: last)
    (places.root / "fails.txt").write_text("opacity")
    outcome = variants.fill(places, 5, "ada", (), 1)
    assert outcome["exit_code"] != 0
    assert len(outcome["errors"]) == 1
    found = sorted(path.name for path in (places.root / "data/metrics/ada/variants/table_5").iterdir())
    assert found == ["2_delta_opacity_rgb"]
    assert places.params.read_text() == PARAMS


def test_a_table_that_was_killed_gives_the_params_back(places: Places) -> None:
    folder = places.root / ".work" / "table"
    folder.mkdir(parents=True)
    (folder / "params.yaml").write_text(PARAMS)
    places.params.write_text("# of a variant\n")
    assert choose_preset(places, "best")
    assert places.params.read_text() == f"preset: best\n{PARAMS}"  # and not what was the variant's
    put_back(places)
    assert places.params.read_text() == f"preset: best\n{PARAMS}"


def test_what_is_changed_while_a_table_is_filled_is_refused_or_stays(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any) -> dict[str, Any]:
        if places.params.read_text() == PARAMS:  # after the last variant
            choose_preset(places, "best")
            return {"states": {}, "seconds": {}, "errors": [], "exit_code": 0}
        with pytest.raises(BusyError, match="a table is already going on") as error:
            choose_preset(places, "best")
        assert error.value.fix
        return {"states": {}, "seconds": {}, "errors": [], "exit_code": 1}

    monkeypatch.setattr(start, "run", run)
    assert variants.fill(places, 5, "ada", (), 1)["exit_code"] == 1
    assert places.params.read_text() == f"preset: best\n{PARAMS}"


def test_an_interrupt_gives_the_params_back(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        assert places.params.read_text() != PARAMS
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        variants.fill(places, 5, "ada", (), 1)
    assert places.params.read_text() == PARAMS
