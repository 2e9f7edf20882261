"""A place where no result can be written is refused in words that say what is there."""

from pathlib import Path

import pytest

from models.errors import UsageError
from tasks.outputs import make_folder, make_way


def test_a_folder_is_made_with_those_above_it_and_may_be_there(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    make_way(tmp_path / "c" / "page.html")
    assert (tmp_path / "c").is_dir()
    assert not (tmp_path / "c" / "page.html").exists()


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("file", "file: that is a file"),
        ("file/a/b", "file: that is a file"),
        ("link", "link: that is a link"),
        ("/proc/none", "/proc/none: no such folder, and it cannot be made"),
        ("ü" * 150, "the name is too long"),
    ],
)
def test_what_can_be_no_folder_is_named(tmp_path: Path, place: str, what: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for make, path in ((make_folder, tmp_path / place), (make_way, tmp_path / place / "page.html")):
        with pytest.raises(UsageError) as error:
            make(path)
        assert what in error.value.what
        assert error.value.why
        assert error.value.fix


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="that is a folder"):
        make_way(tmp_path)
