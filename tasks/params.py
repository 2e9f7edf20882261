"""params.yaml: one frozen model a stage, unknown keys refused with the nearest key named."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.errors import UsageError, did_you_mean

MAX_BYTES = 1 << 20
OF_ALL_STAGES = ("preset", "scale")
"""Keys of params.yaml beside the sections, which say how every stage trains; see `resolve_params`."""
DEFAULT_PRESET = "cpu"
GridRange = tuple[Annotated[int, Field(ge=2, le=8192)], Annotated[float, Field(ge=2, le=8192)]]
"""Coarsest and finest resolution of a grid."""


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
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: the key {key!r} occurs twice")
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
        place = _place(problem["loc"], data, problem["type"] == "missing")
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _known_keys(model, problem["loc"][:-1])
            fix = did_you_mean(problem["loc"][-1], known, f"known keys: {', '.join(sorted(known))}")
            raise UsageError(
                f"{where}: unknown key {place!r}", "a key that nothing reads would be ignored", fix
            ) from error
        no_keys = problem["type"] in ("model_type", "dataclass_type", "dict_type")
        message = "keys with values belong here" if no_keys else problem["msg"].removeprefix("Value error, ")
        what = ": ".join(filter(None, (where, place, message)))
        value, told = problem.get("input"), problem.get("ctx", {}).get("fix", "")  # a check may know what is right
        fix = told or f"correct {place or where.rpartition(': ')[2]}"
        raise UsageError(what, "" if isinstance(value, Mapping) else f"the value is {value!r}", fix) from error


def _place(loc: tuple[int | str, ...], data: Any, missing: bool) -> str:
    """Return where in `data` something is wrong, without the names of types that pydantic puts between its keys."""
    parts = []
    for part in loc:
        inner: Any = dict(enumerate(data)) if isinstance(data, list | tuple) else data
        if isinstance(inner, Mapping) and part in inner:
            parts.append(str(part))
            data = inner[part]
    return ".".join([*parts, str(loc[-1])] if missing else parts)


def _known_keys(model: type[Any], place: tuple[int | str, ...]) -> list[str]:
    current: type[Any] = model
    for part in place:
        inner = get_type_hints(current).get(str(part))
        if isinstance(inner, type) and (issubclass(inner, BaseModel) or is_dataclass(inner)):
            current = inner
    return list(current.model_fields) if issubclass(current, BaseModel) else [part.name for part in fields(current)]


def load_params(path: Path, section: str, model: type[AnyParams]) -> AnyParams:
    """Read one stage's section of params.yaml (a stage without params has none).

    Raises:
        UsageError: see `read_yaml` and `validate`.
    """
    return validate(model, _section(read_yaml(path), path, section, model), f"{path.name}: {section}")


def names_listed(path: Path, key: str) -> list[str]:
    """Return what a list of params.yaml names, in order of the names; nothing where it is no list.

    Raises:
        UsageError: see `read_yaml`.
    """
    content = read_yaml(path).get(key)
    return sorted(map(str, content)) if isinstance(content, list) else []


def check_preset(name: Any, presets: Collection[str], where: str = "") -> None:
    """Refuse a preset that there is not.

    Raises:
        UsageError: it names those that there are, and the nearest.
    """
    if not isinstance(name, str) or name not in presets:
        there = sorted(presets)
        fix = did_you_mean(name, there, "choose one of those")
        raise UsageError(f"{where}no preset {name!r}", f"there are {', '.join(there)}", fix)


def resolve_params(
    path: Path, section: str, model: type[AnyParams], presets: Mapping[str, Mapping[str, Any]]
) -> tuple[AnyParams, str]:
    """Read one stage's section of params.yaml over what the preset named there sets in it.

    Steps are multiplied by the key `scale`; everything else in a phase is a fraction of them.

    Args:
        path: of params.yaml.
        section: of the stage.
        model: of the stage's params.
        presets: what each sets; none: the stage has no presets.

    Returns:
        The params, and in words which preset they are of; "" if the stage has none.

    Raises:
        UsageError: there is no such preset, `scale` is no positive number, or see `read_yaml` and `validate`.
    """
    if not presets:
        return load_params(path, section, model), ""
    data = read_yaml(path)
    name, scale = data.get("preset", DEFAULT_PRESET), data.get("scale", 1)
    check_preset(name, presets, f"{path.name}: ")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise UsageError(f"{path.name}: scale is {scale!r}", "it multiplies the steps of training", "write scale: 1.0")
    where = f"{path.name}: {section}"
    preset = merged(validate(model, {}, where).model_dump(), presets[name])
    own = _section(data, path, section, model)
    params, plain = validate(model, merged(preset, own), where), validate(model, preset, where)
    words = name if params == plain else f"{name} with changes"
    if scale == 1:
        return params, words
    return scaled(params, scale), f"{words}, steps x {scale:g}"


def merged(base: Any, change: Any) -> Any:
    """Return `base` with the values of `change`, group by group; a number in place of a term is its weight."""
    if not isinstance(base, dict):
        return change
    if isinstance(change, Mapping):
        return {**base, **{key: merged(base.get(key), value) for key, value in change.items()}}
    is_weight = "weight" in base and isinstance(change, int | float) and not isinstance(change, bool)
    return {**base, "weight": change} if is_weight else change


def scaled(params: AnyParams, scale: float) -> AnyParams:
    """Return params whose phase has `scale` times as many steps, at least one where there are any."""
    phase: Any = getattr(params, "phase")  # noqa: B009 - not every model has one
    steps = max(1, round(phase.steps * scale)) if phase.steps else 0
    return params.model_copy(update={"phase": replace(phase, steps=steps)})


def _section(data: dict[str, Any], path: Path, section: str, model: type[Params]) -> Any:
    if section not in data and model.model_fields:
        near = difflib.get_close_matches(section, list(data), n=1)
        raise UsageError(
            f"{path}: no section {section!r}", f"did you mean {near[0]!r}?" if near else "", f"add '{section}:'"
        )
    content = data.get(section)
    return {} if content is None else content
