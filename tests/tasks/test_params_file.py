"""params.yaml is changed in one place; comments and order stay."""

from pathlib import Path

import pytest
import yaml

from models.errors import UsageError
from tasks.params_file import with_name, without_name


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "# top\nspeakers:  # who\n- demo  # made here\n\naudio:\n  rate: 1.0e-3   # kept\n",
            "# top\nspeakers:  # who\n- demo  # made here\n- ann\n\naudio:\n  rate: 1.0e-3   # kept\n",
        ),
        ("speakers:\n- demo\n\n# next\na: 'x'\n", "speakers:\n- demo\n- ann\n\n# next\na: 'x'\n"),
        ("speakers: [demo]   # who\na: 1\n", "speakers: [demo, ann]   # who\na: 1\n"),
        ("speakers: []\na: 1\n", "speakers: [ann]\na: 1\n"),
        ("speakers: [ann]\na: 1\n", "speakers: [ann]\na: 1\n"),
    ],
)
def test_a_name_joins_a_list_and_every_other_line_stays(tmp_path: Path, before: str, after: str) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(before)
    assert with_name(params, "speakers", "ann") == after


def test_without_a_list_there_is_nothing_to_join(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("speakers: []\n")
    with pytest.raises(UsageError, match="no list 'drives'"):
        with_name(tmp_path / "params.yaml", "drives", "x")


def test_a_name_leaves_a_list_on_several_lines_and_comments_stay(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("speakers:\n- one   # first\n- two   # second\n- three\ningest: {size: 64}   # small\n")
    text = without_name(path, "speakers", "two")
    assert "# first" in text
    assert "# small" in text
    assert yaml.safe_load(text)["speakers"] == ["one", "three"]
    path.write_text("speakers: [a]  # who\n")
    assert without_name(path, "speakers", "a") == "speakers: []  # who\n"
    assert without_name(path, "speakers", "b") == path.read_text()


def test_what_is_written_about_the_next_list_stays_when_the_last_name_goes(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("speakers:  # who\n- demo\n- ann  # new\n\n# of drives\ndrives: []\n")
    path.write_text(without_name(path, "speakers", "ann"))
    assert path.read_text() == "speakers:  # who\n- demo\n\n# of drives\ndrives: []\n"
    path.write_text(without_name(path, "speakers", "demo"))
    assert path.read_text() == "speakers: []  # who\n\n# of drives\ndrives: []\n"
