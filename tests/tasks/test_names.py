"""What a speaker or a drive can be called."""

from collections.abc import Callable

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from models.errors import UsageError
from tasks.places import RESERVED, check_name


@pytest.mark.parametrize(
    ("name", "close"),
    [
        *[("Älice", "alice"), ("drives", "drives1"), ("李", "alice"), ("a b", "a_b")],
        *[("no", "speaker_no"), ("False", "speaker_false"), ("007", "speaker_007"), ("1" * 48, "speaker_" + "1" * 40)],
    ],
)
def test_a_refused_name_comes_with_one_that_can_be_used(name: str, close: str) -> None:
    with pytest.raises(UsageError) as error:
        check_name(name)
    assert repr(close) in error.value.fix
    assert check_name(close) == close


@settings(max_examples=300)
@example("no")
@example("on")
@example("yes")
@example("null")
@example("2024")
@example("007")
@example("08")
@example("1e5")
@example("0x1f")
@example("0o17")
@example("0b1_0")
@example("1_000")
@example("none")
@example("7up")
@given(st.from_regex("[a-z0-9][a-z0-9_]{0,47}", fullmatch=True) | st.from_regex("[0-9][0-9box_e]{0,5}", fullmatch=True))
def test_a_name_is_refused_where_yaml_would_read_something_else(name: str) -> None:
    def is_text(load: Callable[[str], object]) -> bool:
        try:
            return load(name) == name
        except ValueError:  # 0x_, a number without a digit
            return False

    try:
        check_name(name)
    except UsageError:
        assert name in RESERVED or not (is_text(yaml.safe_load) and is_text(YAML(typ="safe", pure=True).load))
    else:
        assert is_text(yaml.safe_load)
        assert is_text(YAML(typ="safe", pure=True).load)  # YAML 1.2, as DVC reads it
