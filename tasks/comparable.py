"""Whether two results may be compared: of the same true frames, the same split and the same size, or why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def why_not_comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return why two results must not be compared number by number, "" if they may be.

    Args:
        one: what a metrics file says under "about".
        other: the same of the other one.
    """
    for key, words in (
        ("speaker", "of different speakers"),
        ("drive", "of different drives"),
        ("size", "at different sizes"),
    ):
        if one.get(key, "") != other.get(key, ""):
            return f"measured {words}: {one.get(key) or 'none'} and {other.get(key) or 'none'}"
    if one.get("drive"):
        return _differs(one, other, "split", "of different lengths")
    ours, theirs = (about.get("data") or {} for about in (one, other))
    if not (ours and theirs):
        return "one of them does not tell its split: it was measured by an older version; dvc repro measures it again"
    if ours["split"] != theirs["split"]:
        return f"measured on different splits: {_split(one)} and {_split(other)}"
    if ours["truth"] != theirs["truth"]:
        return "measured against different true frames: the footage, its crop or its decoding has changed"
    return ""


def _differs(one: Mapping[str, Any], other: Mapping[str, Any], key: str, words: str) -> str:
    same = one.get(key) == other.get(key)
    return "" if same else f"measured {words}: {one.get(key)} and {other.get(key)}"


def _split(about: Mapping[str, Any]) -> str:
    return f"{about.get('split', '?')} ({about['data']['split'][:8]})"


WITH_THE_FRAME = ("frame", "head")
"""Regions that are the true frame's for the most part where a method draws the face alone."""


def caveats(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return what else two results that may be compared do not share."""
    notes = []
    if one.get("judge") != other.get("judge"):
        judges = f"{one.get('judge')} and {other.get('judge')}"
        notes.append(f"Landmarks were read by {judges}: what is measured by them differs for that reason, too.")
    if one.get("device") != other.get("device"):
        notes.append("Made on different devices: times, frames a second and memory are of different machines.")
    if one.get("drawn") != other.get("drawn"):
        which, drawn = ("first", one["drawn"]) if one.get("drawn") else ("second", other["drawn"])
        notes.append(
            f"The {which} draws {drawn}: PSNR and SSIM of frame and head compare nothing; those of the face do."
        )
    lossy = [name for name, about in (("first", one), ("second", other)) if _is_lossy(about)]
    if lossy:
        notes.append(f"Frames of the {' and the '.join(lossy)} come from a lossy video.")
    return notes


def _is_lossy(about: Mapping[str, Any]) -> bool:
    told = (about.get("imported") or {}).get("full")
    return bool(told) and not told["lossless"]
