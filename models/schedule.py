"""Schedules as data: what a phase of training does, how much it counts, and when.

All times are fractions of the phase's steps, so that one number makes a phase longer or shorter and every part of it
keeps its place. A row is on after `start` and up to and including `end`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

MOST_GAUSSIANS = 1_000_000
"""Of a field: many times what a head needs, and what a large GPU can hold."""


class Phase:
    """What every phase of training is: plain values, checked as soon as they are given."""

    MOST: ClassVar[dict[str, int]] = {}
    """Of counts that memory is taken for, by their names; each phase knows its own."""
    PARTS: ClassVar[tuple[str, ...]] = ()
    """What its rows `frozen` may name."""

    def __post_init__(self) -> None:
        """Check that counts are none below zero nor beyond memory, numbers are some, and frozen parts are known.

        Raises:
            ValueError: one of them is not.
        """
        for part in fields(self):  # type: ignore[arg-type]  # of the dataclasses that this is a base of
            value = getattr(self, part.name)
            if isinstance(value, int) and value < 0:
                raise ValueError(f"{part.name} is a count: 0 or more, not {value}")
            if isinstance(value, int) and value > self.MOST.get(part.name, value):
                raise ValueError(f"{part.name} is at most {self.MOST[part.name]}, not {value}")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{part.name} is {value}, which is no number")
        for name in (name for row in getattr(self, "frozen", ()) for name in row.parts):
            if name not in self.PARTS:
                raise ValueError(f"frozen: {name!r} is no part that can be; those are {', '.join(self.PARTS)}")


class Row(NamedTuple):
    """What is on from one step to another, in words, for a table."""

    name: str
    first: int
    last: int
    says: str


@dataclass(frozen=True)
class Term:
    """A term of a loss, or anything else that is on for some time: its weight and when it counts."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    every: int = 1  # steps; between them it is off
    rests: int = 0  # at every so many steps it is off; 0: never

    def __post_init__(self) -> None:
        """Check the weight and the times.

        Raises:
            ValueError: a loss cannot count so much, or the times are no part of a phase.
        """
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"a term's weight is 0 or more, not {self.weight}")
        if not 0 <= self.start <= self.end <= 1 or self.every < 1 or self.rests < 0:
            raise ValueError("a term starts at 0 or later, ends at 1 or before, and counts every 1 or more steps")

    def at(self, step: int, steps: int) -> float:
        """Return how much it counts in `step` (from 1) of `steps`."""
        on = self.start < step / steps <= self.end and step % self.every == 0
        return self.weight if on and not (self.rests and step % self.rests == 0) else 0.0

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe it."""
        often = f" every {self.every}" if self.every > 1 else ""
        rests = f" but every {self.rests}" if self.rests else ""
        return _row(name, self, steps, f"{self.weight:g}{often}{rests}") if self.weight else []


OFF = Term(0.0)


@dataclass(frozen=True)
class Frozen:
    """Parts that keep their values for some time."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    parts: tuple[str, ...]
    start: float = 0.0
    end: float = 1.0

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe it."""
        return [row for part in self.parts for row in _row(f"{name}: {part}", self, steps, "yes")]


@dataclass(frozen=True)
class Backdrop:
    """Plain colours behind a field, step by step in turn, for some time."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    colors: tuple[tuple[float, float, float], ...]
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        """Check that there are some.

        Raises:
            ValueError: there are none.
        """
        if not self.colors:
            raise ValueError("colors of a backdrop are one or more, each three numbers")

    def rows(self, name: str, steps: int) -> list[Row]:
        """Describe it."""
        colors = ", ".join(" ".join(f"{value:g}" for value in color) for color in self.colors)
        return _row(name, self, steps, f"rgb {colors}")


@dataclass(frozen=True)
class Decay:
    """A factor that falls exponentially: to `factor` after the fraction `over`, and is used until `until`."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    factor: float
    over: float = 1.0
    until: float = 1.0

    def __post_init__(self) -> None:
        """Check the times.

        Raises:
            ValueError: nothing can fall so.
        """
        if not (self.factor > 0 and self.over > 0 and 0 < self.until <= 1):
            raise ValueError("a factor above 0 falls over more than 0 of a phase, until 1 or before")


Curve = tuple[Decay, ...]


def factor_at(curve: Curve, progress: float) -> float:
    """Return the factor of a curve at `progress` 0..1; after its last piece it stays."""
    for piece in curve:
        if progress < piece.until:
            return piece.factor ** (progress / piece.over)
    return curve[-1].factor ** (min(progress, curve[-1].until) / curve[-1].over) if curve else 1.0


def curve_rows(name: str, curve: Curve, value: float, steps: int) -> list[Row]:
    """Describe a value times a curve, piece by piece."""
    rows, start = [], 0.0
    for piece in curve:
        last = math.nextafter(piece.until, 0)
        says = f"{value * factor_at(curve, start):.3g} → {value * factor_at(curve, last):.3g}"
        rows += _row(name, Term(1.0, start, piece.until), steps, says)
        start = piece.until
    if start < 1:
        rows += _row(name, Term(1.0, start), steps, f"{value * factor_at(curve, 1.0):.3g}")
    return rows


def weights_at(phase: Any, step: int) -> dict[str, float]:
    """Return how much every `Term` of a phase counts in `step` (from 1) of its steps."""
    return {
        part.name: term.at(step, phase.steps)
        for part in fields(phase)
        if isinstance(term := getattr(phase, part.name), Term)
    }


def weighed(on: Mapping[str, float], terms: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Return the terms that count, each times its weight; the others are not computed."""
    return {name: on[name] * term() for name, term in terms.items() if on.get(name)}


def frozen_at(rows: tuple[Frozen, ...], progress: float) -> frozenset[str]:
    """Return the parts that are frozen at `progress` 0..1."""
    return frozenset(part for row in rows if row.start < progress <= row.end for part in row.parts)


def color_at(rows: tuple[Backdrop, ...], step: int, steps: int) -> tuple[float, float, float]:
    """Return what is behind a field in `step` (from 1) of `steps`: black where no row is on."""
    for row in rows:
        if row.start < step / steps <= row.end:
            return row.colors[step % len(row.colors)]
    return (0.0, 0.0, 0.0)


def describe(phase: Any) -> tuple[list[Row], dict[str, Any]]:
    """Return what is on when in a phase, and the values that hold throughout.

    Args:
        phase: a dataclass with `steps`, whose parts describe themselves (`rows`) or are plain values.
    """
    rows: list[Row] = []
    constants: dict[str, Any] = {}
    for part in fields(phase):
        value = getattr(phase, part.name)
        several = value if isinstance(value, tuple) else (value,)
        if all(hasattr(one, "rows") for one in several):
            rows += [row for one in several for row in one.rows(part.name, phase.steps)]
        elif not isinstance(value, Mapping):
            constants[part.name] = value
    return [row for row in rows if row.first <= row.last], constants


def first_after(fraction: float, steps: int) -> int:
    """Return the first of `steps` (from 1) that lies after a fraction of them, as `Term.at` sees it."""
    step = max(1, int(fraction * steps))
    while step / steps <= fraction:
        step += 1
    while step > 1 and (step - 1) / steps > fraction:
        step -= 1
    return step


def _row(name: str, span: Any, steps: int, says: str) -> list[Row]:
    if not steps:
        return []
    return [Row(name, first_after(span.start, steps), min(steps, first_after(span.end, steps) - 1), says)]
