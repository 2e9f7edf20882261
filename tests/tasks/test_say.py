"""What `say` refuses before it computes anything."""

from pathlib import Path

import pytest

from models.errors import InputError, UsageError
from models.storage import RECORD_FILE
from tasks.places import Keys, Places
from tasks.say import check_output, check_trained


@pytest.mark.parametrize("name", ["out.avi", "out", "folder.mp4", "file.txt/out.mp4"])
def test_a_place_where_no_mp4_can_be_written_is_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(UsageError) as error:
        check_output(tmp_path / name)
    assert error.value.fix


def test_the_folder_of_the_video_is_made(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "out.MP4")
    assert (tmp_path / "new").is_dir()


def test_a_head_that_is_not_trained_is_named_with_those_that_are(tmp_path: Path) -> None:
    places = Places(tmp_path)
    with pytest.raises(InputError, match="ann has no trained head for logmel") as error:
        check_trained(places, "ann", "logmel")
    assert (error.value.why, error.value.fix) == ("trained: none", "gausstalk run ann")
    record = places.record("tg_fuse", Keys(speaker="ann", extractor="logmel")) / RECORD_FILE
    record.parent.mkdir(parents=True)
    record.write_bytes(b"")
    check_trained(places, "ann", "logmel")
    with pytest.raises(InputError, match="no trained head for hubert") as error:
        check_trained(places, "ann", "hubert")
    assert "--extractor logmel" in error.value.fix
