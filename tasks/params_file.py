"""Changes params.yaml, one process at a time, whole or not at all; its comments and its order stay."""

from __future__ import annotations

import copy
import fcntl
import io
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import delitem
from pathlib import Path
from typing import Any

import yaml

from models.errors import UsageError
from models.methods.talking_gaussian_presets import PRESETS
from tasks.params import DEFAULT_PRESET, check_preset, read_yaml
from tasks.places import Places
from tasks.put_away import put_away, put_back

log = logging.getLogger("gausstalk")


@contextmanager
def changing_params(places: Places) -> Iterator[None]:
    """Keep others from changing params.yaml: of two at once, one would undo what the other has listed.

    The file itself is the lock, so it is replaced once, at the end: who waited for the old one waits for the new one.

    Raises:
        BusyError: a table is being filled, after which params.yaml is as it was before.
    """
    while True:
        put_back(places)
        with places.params.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not put_away(places).is_file() and os.path.samestat(os.fstat(file.fileno()), places.params.stat()):
                yield
                return


def replace_params(params: Path, text: str) -> None:
    """Write params.yaml whole or not at all."""
    draft = params.with_name(f".{params.name}.new-{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, params)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def choose_preset(places: Places, name: str) -> bool:
    """Write the preset of training into params.yaml; comments and order stay.

    Returns:
        Whether it was another one.

    Raises:
        UsageError: there is no such preset, or params.yaml is not valid.
    """
    check_preset(name, PRESETS)
    with changing_params(places):
        content = read_yaml(places.params)
        now = content.get("preset", DEFAULT_PRESET)
        if now == name:
            return False
        if not isinstance(now, str):
            raise UsageError(f"{places.params}: preset is {now!r}", "it names one of training", f"write preset: {name}")
        text = places.params.read_text(encoding="utf-8")
        line = re.search(r"^preset:[ \t]*([^\s#]+)", text, re.MULTILINE)
        new = f"{text[: line.start(1)]}{name}{text[line.end(1) :]}" if line else f"preset: {name}\n{text}"
        if not _reads(new, {**content, "preset": name}):  # it is written in another way than usual
            new = _edited(text, lambda data: data.update(preset=name))
        replace_params(places.params, new)
    log.info("params.yaml: preset %s from now on", name)
    return True


def with_name(params: Path, key: str, name: str) -> str:
    """Return the text of params.yaml with `name` in the list `key`; comments and order stay.

    Raises:
        UsageError: params.yaml is not valid or has no such list.
    """
    if not isinstance(read_yaml(params).get(key), list):
        raise UsageError(f"{params}: no list {key!r}", "", f"add '{key}: []'")
    text = params.read_text(encoding="utf-8")
    if name in read_yaml(params)[key]:
        return text
    line = re.search(rf"^{key}:[ \t]*\[([^\]#]*)\]", text, re.MULTILINE)
    if line:  # a list on one line: the editor below would move the comment behind it
        listed = line.group(1).strip().removesuffix(",")
        return text[: line.start(1)] + ", ".join(filter(None, (listed, name))) + text[line.end(1) :]
    return _edited(text, lambda data: _append(data[key], name))


def _reads(text: str, content: dict[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(text) == content)
    except yaml.YAMLError:
        return False


def _edited(text: str, change: Callable[[Any], None]) -> str:
    from ruamel.yaml import YAML

    editor: Any = YAML()
    editor.preserve_quotes = True
    editor.width = 4096
    data = editor.load(text)
    change(data)
    buffer = io.StringIO()
    editor.dump(data, buffer)
    return buffer.getvalue()


def _append(names: Any, name: str) -> None:
    """Append to a list of ruamel's; the lines that follow the list stay behind it."""
    last = len(names) - 1
    names.append(name)
    token = (names.ca.items.get(last) or [None])[0]
    if token is not None:
        comment, _, following = token.value.partition("\n")
        if following:
            after = copy.copy(token)
            token.value, after.value = f"{comment}\n", f"\n{following}"
            names.ca.items[last + 1] = [after, None, None, None]


def names_written(params: Path, key: str) -> list[str]:
    """Return the names in a list of params.yaml as they stand there: of 007 YAML makes 7, and of no, false.

    Raises:
        UsageError: params.yaml is not valid.
    """
    read_yaml(params)
    names = yaml.load(params.read_text(encoding="utf-8"), Loader=yaml.BaseLoader).get(key)  # noqa: S506 - gives text alone
    return names if isinstance(names, list) else []


def without_name(params: Path, key: str, name: str) -> str:
    """Return the text of params.yaml without `name` in the list `key`; comments and order stay.

    Raises:
        UsageError: params.yaml is not valid.
    """
    text = params.read_text(encoding="utf-8")
    names = names_written(params, key)
    if name not in names:
        return text
    place = names.index(name)
    line = re.search(rf"^{key}:[ \t]*\[([^\]#]*)\]", text, re.MULTILINE)
    if line:
        kept = [entry.strip() for entry in line.group(1).split(",")]
        del kept[place]
        return text[: line.start(1)] + ", ".join(filter(None, kept)) + text[line.end(1) :]
    # A list down the page: the name's own line goes. The editor would take the comment that follows the list with it.
    heading = re.search(rf"^{key}:[ \t]*(#.*)?\n", text, re.MULTILINE)
    entries = list(re.compile(r"^[ \t]*- .*\n?", re.MULTILINE).finditer(text, heading.end())) if heading else []
    if heading and place < len(entries):
        empty = " []" if len(names) == 1 else ""
        after_key = heading.start() + len(key) + 1
        new = text[:after_key] + empty + text[after_key : entries[place].start()] + text[entries[place].end() :]
        content = read_yaml(params)
        if _reads(new, {**content, key: [other for n, other in enumerate(content[key]) if n != place]}):
            return new
    return _edited(text, lambda data: delitem(data[key], place))
