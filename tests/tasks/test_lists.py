"""The lists of params.yaml: what no stage can run over is named, with what to write instead."""

from pathlib import Path

import pytest

from models.errors import UsageError
from tasks.doctor import wrong_params
from tasks.lists import check_lists, wrong_lists
from tasks.places import Places

ROOT = Path(__file__).resolve().parents[2]
RIGHT = {
    "speakers": "[demo, ann]",
    "drives": "[de_f]",
    "extractors": "[logmel]",
    "gaussian_talkers": "[ann]",
    "imports": "{}",
}


def project(folder: Path, **changes: str) -> Places:
    text = "".join(f"{key}: {value}\n" for key, value in {**RIGHT, **changes}.items())
    (folder / "params.yaml").write_text(text)
    return Places(folder)


def test_the_lists_of_this_project_are_right(tmp_path: Path) -> None:
    numbered = {"speakers": "[demo, ann, 2024]", "sync_house": "{left_out: [ann, '2024']}"}
    assert wrong_lists(Places(ROOT)) == []
    for changes in ({}, {"extractors": "[]"}, numbered):
        places = project(tmp_path, **changes)
        assert wrong_lists(places) == []
        check_lists(places)


def test_what_no_list_is_inside_a_section_its_own_params_refuse(tmp_path: Path) -> None:
    places = project(tmp_path, sync_house="{left_out: bob}")
    check_lists(places)
    (error,) = wrong_params(places)
    assert error.what.startswith("params.yaml: sync_house: left_out: Input should be a valid tuple")


@pytest.mark.parametrize(
    ("key", "value", "what", "fix"),
    [
        ("extractors", "", "extractors is empty, no list", "write extractors: []"),
        ("speakers", "", "speakers is empty, no list", "write speakers: []"),
        ("speakers", "demo", "speakers is 'demo', no list", "write speakers: [demo]"),
        ("speakers", "{demo: 1}", "speakers is {'demo': 1}, no list", "write speakers: [demo]"),
        ("drives", "5", "drives is 5, no list", "write drives: [5]"),
        ("gaussian_talkers", "", "gaussian_talkers is empty, no list", "write gaussian_talkers: []"),
        ("imports", "", "imports is empty, no mapping", "write imports: {}"),
        ("imports", "5", "imports is 5, no mapping", "write imports: {}"),
        ("imports", "[a]", "imports is ['a'], no mapping", "write imports: {}"),
        ("extractors", "[logmel, logmle]", "extractors lists 'logmle'", "did you mean 'logmel'?"),
        ("extractors", "[[logmel]]", "extractors lists ['logmel']", "did you mean 'logmel'?"),
        ("gaussian_talkers", "[ann, bob]", "gaussian_talkers lists 'bob'", "add bob to speakers"),
        ("sync_house", "{left_out: [ann, bob]}", "sync_house.left_out lists 'bob'", "out of sync_house.left_out"),
        ("gt_motion", "{speakers: [bob]}", "gt_motion.speakers lists 'bob'", "add bob to speakers"),
        ("speakers", "[demo, ann, demo]", "speakers lists 'demo' twice", "take one of them out"),
        ("speakers", "[demo, ann, Bob]", "speakers: 'Bob' cannot name a speaker", "for example 'bob'"),
        ("drives", "[null]", "drives: 'None' cannot name a drive", "for example 'none'"),
    ],
)
def test_what_is_wrong_with_a_list_is_told_by_the_doctor_and_before_a_run(
    tmp_path: Path, key: str, value: str, what: str, fix: str
) -> None:
    places = project(tmp_path, **{key: value})
    (error,) = wrong_params(places)
    assert what in error.what
    assert fix in error.fix
    with pytest.raises(UsageError) as raised:
        check_lists(places)
    assert str(raised.value) == str(error)


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("scael: 1.0", "did you mean 'scale'?"),
        ("speaker: [demo]", "did you mean 'speakers'?"),
        ("tgface: {}", "did you mean 'tg_face'?"),
        ("tg_face.seed: 3", "did you mean 'tg_face'?"),
        ("5: {}", "remove it"),
    ],
)
def test_a_key_that_nothing_reads_names_the_nearest(tmp_path: Path, line: str, fix: str) -> None:
    places = project(tmp_path)
    places.params.write_text(f"{places.params.read_text()}{line}\n")
    (error,) = wrong_params(places)
    assert "no stage" in error.what
    assert error.fix == fix
