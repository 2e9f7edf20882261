"""The methods as data: what they are called, whose heads they make, and which stages are theirs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import UsageError
from tasks.params import names_listed
from tasks.places import Keys, Places


@dataclass(frozen=True)
class Method:
    """One way to make a talking head."""

    name: str  # in records, numbers and keys of runs
    title: str
    listed: str  # list of params.yaml that says whose heads it makes
    prefix: str  # of its stages of training
    render: str  # its other stages
    evaluate: str
    render_drive: str
    evaluate_drive: str
    trained: tuple[str, ...]  # stages whose records are the head

    def has(self, stage: str) -> bool:
        """Return whether a stage of dvc.yaml belongs to this method alone."""
        others = (self.render, self.evaluate, self.render_drive, self.evaluate_drive)
        return stage.startswith(self.prefix) or stage in others


TALKING_GAUSSIAN = Method(
    name="talking_gaussian",
    title="TalkingGaussian",
    listed="speakers",
    prefix="tg_",
    render="render",
    evaluate="evaluate",
    render_drive="render_drive",
    evaluate_drive="evaluate_drive",
    trained=("tg_fuse",),
)
GAUSSIAN_TALKER = Method(
    name="gaussian_talker",
    title="GaussianTalker",
    listed="gaussian_talkers",
    prefix="gt_",
    render="gt_render",
    evaluate="gt_evaluate",
    render_drive="gt_render_drive",
    evaluate_drive="gt_evaluate_drive",
    trained=("gt_motion", "gt_renderer", "gt_inpaint"),
)
METHODS = {method.name: method for method in (TALKING_GAUSSIAN, GAUSSIAN_TALKER)}


def find_method(text: str) -> Method:
    """Return the method that somebody means: gaussiantalker, GaussianTalker, gaussian_talker, ...

    Raises:
        UsageError: there is none of that name; the nearest is named.
    """
    plain = {name.replace("_", ""): method for name, method in METHODS.items()}
    wanted = text.lower().replace("_", "").replace("-", "").replace(" ", "")
    if wanted not in plain:
        near = difflib.get_close_matches(wanted, plain, n=1)
        fix = f"did you mean {near[0]}?" if near else "gausstalk import-predictions brings in frames of other systems"
        raise UsageError(f"no method {text!r}", f"there are {', '.join(plain)}", fix)
    return plain[wanted]


def method_of(stage: str) -> Method | None:
    """Return whose stage of dvc.yaml it is, None for one that all methods share."""
    return next((method for method in METHODS.values() if method.has(stage)), None)


def listed_heads(places: Places) -> Iterator[tuple[Method, Keys]]:
    """Yield method and keys of every head that params.yaml asks for: what it no longer lists may still lie there."""
    speakers, extractors = (names_listed(places.params, key) for key in ("speakers", "extractors"))
    for method in METHODS.values():
        for speaker in names_listed(places.params, method.listed):
            if speaker in speakers:
                yield from ((method, Keys(speaker, extractor)) for extractor in extractors)


def heads_measured(places: Places) -> list[Path]:
    """Return the metrics files of these heads on their test frames, in order."""
    return files_in(places.metrics(method.evaluate, keys) for method, keys in listed_heads(places))


def drives_measured(places: Places) -> list[Path]:
    """Return those of these heads that say the drives of params.yaml, in order."""
    drives = names_listed(places.params, "drives")
    return files_in(
        places.metrics(method.evaluate_drive, replace(keys, drive=drive))
        for method, keys in listed_heads(places)
        for drive in drives
    )


def videos_made(places: Places) -> list[Path]:
    """Return the videos of these heads, of their test frames and of these drives, in order."""
    drives = names_listed(places.params, "drives")
    folders = [
        places.preview(stage, own)
        for method, keys in listed_heads(places)
        for stage, own in (
            (method.render, keys),
            *((method.render_drive, replace(keys, drive=drive)) for drive in drives),
        )
    ]
    return sorted(path for folder in folders for path in folder.glob("*.mp4"))


def files_in(folders: Iterable[Path]) -> list[Path]:
    """Return the metrics files that are there, in order."""
    return sorted(path for folder in folders if (path := folder / "metrics.json").is_file())


def rendered_heads(places: Places, speaker: str) -> Iterator[tuple[Method, Keys]]:
    """Yield method and keys of every head of a speaker that params.yaml asks for and that there are videos of."""
    for method, keys in listed_heads(places):
        stages = (method.render, method.render_drive)
        if keys.speaker == speaker and any(places.preview(stage, keys).is_dir() for stage in stages):
            yield method, keys
