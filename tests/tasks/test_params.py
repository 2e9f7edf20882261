import importlib
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from models.errors import UsageError
from tasks import imports
from tasks.params import MAX_BYTES, Params, load_params, names_listed, read_yaml, resolve_params, validate

ROOT = Path(__file__).resolve().parents[2]


class Inner(Params):
    rate: float = 1e-3


class Part(Params):
    name: str


class Example(Params):
    steps: int = Field(default=10, ge=1)
    size: int = 256
    inner: Inner = Inner()
    window: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    parts: list[Part] = []


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_values_and_defaults(tmp_path: Path) -> None:
    params = load_params(written(tmp_path, "train:\n  steps: 3\n  inner: {rate: 1e-4}\n"), "train", Example)
    assert (params.steps, params.size, params.inner.rate) == (3, 256, 1e-4)
    with pytest.raises(ValidationError):
        params.steps = 4  # frozen


def test_an_unknown_key_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown key 'stpes'") as error:
        load_params(written(tmp_path, "train: {stpes: 3}\n"), "train", Example)
    assert error.value.fix == "did you mean 'steps'?"
    with pytest.raises(UsageError, match=r"unknown key 'inner\.rates'") as error:
        validate(Example, {"inner": {"rates": 1}}, "x")
    assert error.value.fix == "did you mean 'rate'?"


def test_what_is_wrong_is_placed_by_keys_alone(tmp_path: Path) -> None:
    def wrong(model: type[Params], data: object) -> UsageError:
        with pytest.raises(UsageError) as error:
            validate(model, data, "params.yaml: x")
        return error.value

    for value in (0, [1], {"a": 1}):  # one of two types is asked for
        error = wrong(Example, {"window": value})
        assert error.what.startswith("params.yaml: x: window: Input should be")
        assert error.fix == "correct window"
    assert wrong(Example, {"inner": {"rate": "fast"}}).fix == "correct inner.rate"
    assert wrong(Example, {"parts": [{"name": "a"}, {}]}).what == "params.yaml: x: parts.1.name: Field required"
    assert wrong(Example, {"parts": [{"name": "a", "nmae": 1}]}).what == "params.yaml: x: unknown key 'parts.0.nmae'"
    whole = wrong(Example, ["steps"])
    assert whole.what == "params.yaml: x: keys with values belong here"
    assert whole.fix == "correct x"


def test_a_missing_section_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no section 'train'") as error:
        load_params(written(tmp_path, "trian: {}\n"), "train", Example)
    assert "'trian'" in error.value.why


def test_what_is_no_list_names_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, "speakers: [zoe, 7, ann]\ndrives: de_f\nextractors:\n")
    assert names_listed(path, "speakers") == ["7", "ann", "zoe"]
    assert names_listed(path, "drives") == names_listed(path, "extractors") == names_listed(path, "other") == []


def test_a_section_without_keys_is_empty_and_anything_else_in_its_place_is_refused(tmp_path: Path) -> None:
    presets: dict[str, dict[str, object]] = {"cpu": {"size": 3}}
    for text in ("", "{}", "null"):
        assert load_params(written(tmp_path, f"train: {text}\n"), "train", Example) == Example()
    for text in ("[]", "''", "0", "false", "0.5", "steps"):
        path = written(tmp_path, f"train: {text}\n")
        for preset in ({}, presets):
            with pytest.raises(UsageError, match="params.yaml: train: keys with values belong here") as error:
                resolve_params(path, "train", Example, preset)
            assert error.value.fix == "correct train"


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [echo]\n",
        "a: &x [1]\nb: *x\n",
        "a: 1\na: 2\n",
        "a: [1\n",
        "- 1\n",
        "a:\tb: c\n",
        "",
    ],
    ids=["object", "alias", "twice", "cut", "list", "tab", "empty"],
)
def test_yaml_that_is_not_a_plain_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        read_yaml(written(tmp_path, text))


def test_files_that_cannot_be_a_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="at most"):
        read_yaml(written(tmp_path, "#" * (MAX_BYTES + 1)))
    (tmp_path / "b.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(UsageError, match="not a text file"):
        read_yaml(tmp_path / "b.yaml")


@given(st.dictionaries(st.text(min_size=1), st.integers(), min_size=1))
def test_no_unknown_key_is_ever_accepted(extra: dict[str, int]) -> None:
    unknown = {name: value for name, value in extra.items() if name not in Example.model_fields}
    if unknown:
        with pytest.raises(UsageError):
            validate(Example, unknown, "params.yaml: train")


@given(st.builds(Example, steps=st.integers(1, 10**9), size=st.integers(), inner=st.builds(Inner)))
def test_valid_params_survive_a_round_trip(params: Example) -> None:
    assert validate(Example, params.model_dump(mode="json"), "x") == params


def test_every_section_of_this_project_is_read_by_its_stage() -> None:
    data = read_yaml(ROOT / "params.yaml")
    sections = [name for name, content in data.items() if isinstance(content, dict) and name != imports.KEY]
    for section in sections:
        stage = importlib.import_module(f"tasks.{section}").STAGE
        assert (stage.section or stage.name) == section
        resolve_params(ROOT / "params.yaml", section, stage.params, stage.presets)


@pytest.mark.parametrize("preset", ["[cpu]", "{cpu: 1}", "5", "null"])
def test_a_preset_that_is_no_word_is_refused(tmp_path: Path, preset: str) -> None:
    path = written(tmp_path, f"preset: {preset}\ntrain: {{}}\n")
    with pytest.raises(UsageError, match=r"params\.yaml: no preset") as error:
        resolve_params(path, "train", Example, {"cpu": {"size": 3}})
    assert error.value.why == "there are cpu"
