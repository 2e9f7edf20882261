"""Whether two results may be compared: of the same true frames, the same split and the same size, or why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OTHER_SOUND = "measured on different sounds of one name: the drive has been replaced"


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
        if one.get("sound") != other.get("sound"):
            older = not (one.get("sound") and other.get("sound"))
            return "one of them does not tell its sound: dvc repro measures it again" if older else OTHER_SOUND
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


DRAWN = {
    "mouth": "the mouth alone, into the true frame",
    "face": "the face alone, into the true frame",
    "head": "the head, onto neck and cloth of the true frame",
    "frame": "the whole frame",
}
"""What a method draws, from the least to the most; the rest are the true frame's own pixels."""
NOT_STATED = "what it draws is not stated"
NEEDED = {"frame": "frame", "steady": "frame", "head": "head", "face_box": "face"}
NEEDED_OF: dict[str, str] = dict.fromkeys(("identity", "jitter", "r_eye", "AUE-U", "AUE-U_own"), "face")
"""What has to be drawn, by region or metric, for a number not to be the true frame's own; else the mouth does."""


def why_copied(one: Mapping[str, Any], other: Mapping[str, Any], metric: str, region: str) -> str:
    """Return why a number of two results tells who copies more of the true frame, "" if both draw what it is of.

    Args:
        one: see `why_not_comparable`.
        other: of the same frames.
        metric: what was measured.
        region: where.
    """
    needed = NEEDED_OF.get(metric) or NEEDED.get(region)
    if one.get("drive") or not needed or _drawn_alike(one, other):  # of a drive nobody has true frames
        return ""
    order, drawn = list(DRAWN), (one.get("drawn"), other.get("drawn"))
    if all(which in DRAWN and order.index(which) >= order.index(needed) for which in drawn):
        return ""
    if not all(drawn):
        return f"of one of them {NOT_STATED}, and what is not drawn may be the true frame's own"
    return "one of them copies from the true frame what the other draws"


def _drawn_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.get("drawn") == other.get("drawn") and bool(one.get("drawn") or one.get("method") == other.get("method"))


def words_of_drawn(about: Mapping[str, Any]) -> str:
    """Return what a method draws of its frames, in words; "" of a drive."""
    if about.get("drive"):
        return ""
    drawn = str(about.get("drawn") or "")
    return f"draws {DRAWN.get(drawn, drawn)}" if drawn else NOT_STATED


def caveats(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return what else two results that may be compared do not share."""
    notes = []
    if one.get("judge") != other.get("judge"):
        judges = f"{one.get('judge')} and {other.get('judge')}"
        notes.append(f"Landmarks were read by {judges}: what is measured by them differs for that reason, too.")
    if one.get("device") != other.get("device"):
        notes.append("Made on different devices: times, frames a second and memory are of different machines.")
    if not one.get("drive") and not _drawn_alike(one, other):
        told = [f"the {name}: {words_of_drawn(about)}" for name, about in (("first", one), ("second", other))]
        note = f"{'; '.join(told)}. What one of them copies from the true frame has no verdict; mouth and lips have."
        notes.append(note[0].upper() + note[1:])
        if not (one.get("drawn") and other.get("drawn")):
            notes.append("Say what an imported system draws: gausstalk import-predictions ... --replace --drawn face")
    lossy = [name for name, about in (("first", one), ("second", other)) if _is_lossy(about)]
    if lossy:
        notes.append(f"Frames of the {' and the '.join(lossy)} come from a lossy video.")
    return notes


def _is_lossy(about: Mapping[str, Any]) -> bool:
    told = (about.get("imported") or {}).get("full")
    return bool(told) and not told["lossless"]
