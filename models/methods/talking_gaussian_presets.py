"""Presets of TalkingGaussian's training as data: what they set, stage by stage, in place of the phases' defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: dict[str, dict[str, dict[str, Any]]] = {"cpu": {}}


def presets_of(section: str) -> Mapping[str, Mapping[str, Any]]:
    """Return what every preset sets in a section of params.yaml."""
    return {name: sections.get(section, {}) for name, sections in PRESETS.items()}
