"""Where a person wants results: looked at before anything is computed, and refused in words."""

from __future__ import annotations

import os
from pathlib import Path

from models.errors import UsageError

LONGEST_NAME = 230  # bytes; file systems take 255, and until a file is whole its name is longer


def make_folder(folder: Path) -> None:
    """Make a folder for results, and those above it, if need be.

    Raises:
        UsageError: something else is there, it cannot be made, or nothing can be written into it.
    """
    check_names(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        there = next(path for path in (folder, *folder.parents) if path.is_symlink() or path.exists())
        what = "a link that leads to no folder" if there.is_symlink() else "a file, no folder"
        raise UsageError(f"{there}: that is {what}", f"the folder {folder} is wanted", "choose another") from error
    except OSError as error:
        raise UsageError(f"{folder}: no such folder, and it cannot be made", str(error), "choose another") from error
    if not os.access(folder, os.W_OK):
        raise UsageError(f"{folder}: nothing can be written there", "it is read-only to you", "choose another folder")


def make_way(path: Path) -> None:
    """Make the folder of a file that will be written.

    Raises:
        UsageError: the file is a folder, its name is too long, or see `make_folder`.
    """
    check_names(path)
    make_folder(path.parent)
    if path.is_dir():
        raise UsageError(f"{path}: that is a folder", "one file will be written", f"name a file: {path / 'NAME'}")


def check_names(path: Path) -> None:
    """Refuse a name that no file system takes.

    Raises:
        UsageError: a part of the path is too long.
    """
    for part in path.parts:
        length = len(os.fsencode(part))
        if length > LONGEST_NAME:
            why = f"it has {length} bytes; {LONGEST_NAME} is the most"
            raise UsageError(f"{part[:40]}...: the name is too long", why, "choose a shorter one")
