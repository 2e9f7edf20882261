"""The lists of params.yaml, which say for whom and by what stages run: looked at before DVC reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from models.audio import names as extractors
from models.errors import UsageError, did_you_mean
from tasks.imports import listed_imports
from tasks.methods import METHODS
from tasks.params import read_yaml
from tasks.places import Places, check_name

NAMED = {"speakers": "speaker", "drives": "drive"}  # what the names in a list name
NAMING = {"sync_house": "left_out", "gt_motion": "speakers"}  # lists in sections, which name speakers, too
LISTS = (*NAMED, "extractors", *(method.listed for method in METHODS.values() if method.listed not in NAMED))


def check_lists(places: Places) -> None:
    """Refuse params.yaml if a list in it, or `imports`, is not what DVC's stages can run over.

    Raises:
        UsageError: see `wrong_lists` and `tasks.imports.listed_imports`.
    """
    for error in wrong_lists(places):
        raise error
    listed_imports(places)


def wrong_lists(places: Places) -> list[UsageError]:
    """Return an error for everything that is no list, or else for every entry that is wrong or there twice.

    Sections that name speakers are looked at, too: their stages would find out when others have run for hours.
    """
    params = read_yaml(places.params)
    lists = {key: params[key] for key in LISTS if key in params}
    broken = [_no_list(key, content) for key, content in lists.items() if not isinstance(content, list)]
    if broken:
        return broken
    wrong = [error for key, names in lists.items() for error in _wrong_entries(key, names, lists)]
    speakers = [str(name) for name in lists.get("speakers", [])]
    wrong += [_stranger(place, name, speakers) for place, name in named_in_sections(params) if name not in speakers]
    return wrong


def _no_list(key: str, content: Any) -> UsageError:
    names = list(content) if isinstance(content, dict) else [] if content is None else [content]
    right = f"{key}: [{', '.join(map(str, names))}]"
    what = "is empty" if content is None else f"is {content!r}"
    return UsageError(f"params.yaml: {key} {what}, no list", "stages run once for each entry of it", f"write {right}")


def _wrong_entries(key: str, names: list[Any], lists: dict[str, list[Any]]) -> Iterator[UsageError]:
    for position, name in enumerate(names):
        if name in names[:position]:
            yield UsageError(f"params.yaml: {key} lists {name!r} twice", "", "take one of them out")
        elif key == "extractors":
            if name not in extractors():
                fix = did_you_mean(name, extractors(), f"take {name} out of extractors")
                what = f"params.yaml: extractors lists {name!r}"
                yield UsageError(what, f"there are {', '.join(extractors())}", fix)
        elif key in NAMED:
            try:
                check_name(str(name), NAMED[key], there=True)
            except UsageError as error:
                yield UsageError(f"params.yaml: {key}: {error.what}", error.why, error.fix)
        elif name not in lists.get("speakers", []):
            yield _stranger(key, name, lists.get("speakers", []))


def _stranger(place: str, name: Any, speakers: list[Any]) -> UsageError:
    known = ", ".join(map(str, speakers)) or "none"
    fix = f"add {name} to speakers, or take it out of {place}"
    return UsageError(f"params.yaml: {place} lists {name!r}", f"speakers: {known}", fix)


def named_in_sections(params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield where in its sections params.yaml lists a speaker, and whom; what is no name, the section refuses."""
    for section, key in NAMING.items():
        content = params.get(section)
        names = content.get(key) if isinstance(content, dict) else None
        if isinstance(names, list):
            yield from ((f"{section}.{key}", name) for name in names if isinstance(name, str))
