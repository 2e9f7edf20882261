"""params.yaml: one frozen model a stage, unknown keys refused with the nearest key named."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import UsageError

MAX_BYTES = 1 << 20


class Params(BaseModel):
    """Base of every stage's params: frozen, and no key that is not declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


AnyParams = TypeVar("AnyParams", bound=Params)


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML without aliases' bombs and with duplicate keys refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise UsageError(f"line {key_node.start_mark.line + 1}: the key {key!r} occurs twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping safely.

    Raises:
        UsageError: it is missing, too large, not YAML, or not a mapping.
    """
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "no such file"
        raise UsageError(f"{path}: {what}", "a YAML file is read from there", "check the path")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path}: {path.stat().st_size} bytes", f"a record is at most {MAX_BYTES} bytes")
    text = path.read_text(encoding="utf-8", errors="strict") if _is_text(path) else None
    if text is None:
        raise UsageError(
            f"{path}: not a text file", "it holds bytes that are not UTF-8", "write YAML: one 'key: value' a line"
        )
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise UsageError(f"{path}: aliases (*name) are not allowed here")
        data = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML", str(error), "correct that line") from error
    if not isinstance(data, dict):
        why = "it is empty" if data is None else f"it holds a {type(data).__name__}"
        raise UsageError(f"{path}: no keys in it", why, "write one 'key: value' a line")
    return data


def _is_text(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def validate(model: type[AnyParams], data: Any, where: str) -> AnyParams:
    """Validate `data` as `model`.

    Raises:
        UsageError: names the place, the value and, for an unknown key, the nearest known one.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _known_keys(model, problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise UsageError(
                f"{where}: unknown key {place!r}", "a key that nothing reads would be ignored", fix
            ) from error
        raise UsageError(
            f"{where}: {place}: {problem['msg']}", f"the value is {problem.get('input')!r}", f"correct {place}"
        ) from error


def _known_keys(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    current: type[BaseModel] = model
    for part in place:
        inner = current.model_fields.get(str(part))
        if inner is not None and isinstance(inner.annotation, type) and issubclass(inner.annotation, BaseModel):
            current = inner.annotation
    return list(current.model_fields)


def load_params(path: Path, section: str, model: type[AnyParams]) -> AnyParams:
    """Read one stage's section of params.yaml (a stage without params has none).

    Raises:
        UsageError: see `read_yaml` and `validate`.
    """
    data = read_yaml(path)
    if section not in data and model.model_fields:
        near = difflib.get_close_matches(section, list(data), n=1)
        raise UsageError(
            f"{path}: no section {section!r}", f"did you mean {near[0]!r}?" if near else "", f"add '{section}:'"
        )
    return validate(model, data.get(section) or {}, f"{path.name}: {section}")
