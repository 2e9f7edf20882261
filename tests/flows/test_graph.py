"""The contract with DVC's internals: if DVC changes them, these tests say so."""

import shutil
from pathlib import Path

import pytest
from toy_project import Toy

from flows.graph import read_plan
from models.errors import UsageError
from tasks.methods import GAUSSIAN_TALKER, TALKING_GAUSSIAN
from tasks.places import Keys, keys_of


def test_the_plan_is_what_dvc_yaml_says(toy: Toy) -> None:
    plan = read_plan(toy.root)
    items = {item.name: item for item in plan.items}
    assert [item.name for item in plan.shared] == ["demo"]
    assert [item.name for item in plan.closing] == ["tables"]
    assert set(plan.of_speakers) == {"ann", "bob"}
    assert items["audio@ann-logmel"].keys == Keys(speaker="ann", extractor="logmel")
    assert items["audio@ann-logmel"].stage == "audio"
    assert items["audio@ann-logmel"].needs == ("ingest@ann",)
    assert set(items["tables"].needs) == {"evaluate@ann-logmel", "evaluate@bob-logmel"}
    names = list(items)
    assert all(names.index(need) < names.index(name) for name, item in items.items() for need in item.needs)
    assert all(item.changed for item in items.values())


def test_one_speaker_brings_what_it_needs_and_what_comes_after(toy: Toy) -> None:
    names = {item.name for item in read_plan(toy.root, ["ann"]).items}
    assert names == {"demo", "ingest@ann", "audio@ann-logmel", "evaluate@ann-logmel", "tables"}


def test_one_extractor_leaves_the_others_out(toy: Toy) -> None:
    (toy.root / "params.yaml").write_text("speakers: [ann]\nextractors: [logmel, hubert]\n")
    names = {item.name for item in read_plan(toy.root, [], ["hubert"]).items}
    assert names == {"demo", "ingest@ann", "audio@ann-hubert", "evaluate@ann-hubert", "tables"}


def test_one_method_leaves_the_stages_of_the_other_out(toy: Toy) -> None:
    names = {item.name for item in read_plan(toy.root, ["ann"], [], GAUSSIAN_TALKER).items}
    assert names == {"demo", "ingest@ann", "audio@ann-logmel", "tables"}  # evaluate is the first method's
    assert "evaluate@ann-logmel" in {item.name for item in read_plan(toy.root, ["ann"], [], TALKING_GAUSSIAN).items}


def test_only_what_a_change_reaches_is_out_of_date(toy: Toy) -> None:
    assert toy.dvc("repro", "-q").returncode == 0
    assert not any(item.changed for item in read_plan(toy.root).items)
    (toy.root / "raw" / "bob.txt").write_text("bob says something else\n")
    changed = {item.name for item in read_plan(toy.root).items if item.changed}
    assert changed == {"ingest@bob", "audio@bob-logmel", "evaluate@bob-logmel", "tables"}


def test_without_a_speaker_what_belongs_to_none_is_still_brought_up_to_date(toy: Toy) -> None:
    assert toy.dvc("repro", "-q").returncode == 0
    (toy.root / "params.yaml").write_text("speakers: []\nextractors: [logmel]\n")
    for name in ("ann", "bob"):
        shutil.rmtree(toy.root / "data" / "metrics" / name)
    plan = read_plan(toy.root)
    assert {item.name: item.changed for item in plan.items} == {"tables": True}
    assert plan.closing == plan.items


def test_data_that_dvc_tracks_is_no_stage_and_those_that_read_it_still_run(toy: Toy) -> None:
    (toy.root / "raw" / "extra.bin").write_text("of no stage\n")
    assert toy.dvc("add", "-q", "raw/extra.bin", "raw/bob.txt").returncode == 0
    items = {item.name: item for item in read_plan(toy.root).items}
    assert len(items) == 8
    assert items["ingest@bob"].needs == ("demo",)
    assert toy.dvc("repro", "-q").returncode == 0
    (toy.root / "raw" / "bob.txt").write_text("bob says something else\n")
    changed = {item.name for item in read_plan(toy.root).items if item.changed}
    assert changed == {"ingest@bob", "audio@bob-logmel", "evaluate@bob-logmel", "tables"}
    assert toy.dvc("repro", "-q", "--single-item", "ingest@bob").returncode == 0


def test_an_unknown_speaker_is_refused_with_the_known_ones(toy: Toy) -> None:
    with pytest.raises(UsageError) as error:
        read_plan(toy.root, ["cyd"])
    assert "ann, bob" in error.value.why
    assert "add-speaker cyd" in error.value.fix
    with pytest.raises(UsageError) as error:
        read_plan(toy.root, ["anm"])
    assert error.value.fix == "did you mean 'ann'?"


@pytest.mark.parametrize("text", ["stages: [", "stages:\n  a:\n    cmd: x\n    outs: 3\n", "stages: {a: {cm: x}}\n"])
def test_a_broken_graph_is_the_users_error(toy: Toy, text: str) -> None:
    (toy.root / "dvc.yaml").write_text(text)
    with pytest.raises(UsageError):
        read_plan(toy.root)


def test_no_dvc_project_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_plan(tmp_path)


def test_keys_come_from_the_command() -> None:
    assert keys_of("python -m tasks.x --speaker a_b --extractor e --drive d") == Keys("a_b", "e", "d")
    assert keys_of("python -m tasks.x --speaker a_b --method m") == Keys("a_b", method="m")
    assert keys_of("python -m tasks.tables") == Keys()
