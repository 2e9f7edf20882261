"""The methods as data: what they are called, whose heads they make, and which stages are theirs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from models.errors import UsageError
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


def heads_measured() -> list[str]:
    """Return the patterns of metrics files of heads on their test frames, below data/metrics/<speaker>."""
    return [f"{method.evaluate}/*/metrics.json" for method in METHODS.values()]


def drives_measured() -> list[str]:
    """Return those of heads that say a drive."""
    return [f"{method.evaluate_drive}/*/*/metrics.json" for method in METHODS.values()]


def rendered_heads(places: Places, speaker: str) -> Iterator[tuple[Method, Keys]]:
    """Yield method and keys of every head of a speaker that there are videos of."""
    for method in METHODS.values():
        stages = (method.render, method.render_drive)
        folders = [path for stage in stages for path in places.preview(stage, Keys(speaker)).glob("*")]
        for extractor in sorted({path.name for path in folders if path.is_dir()}):
            yield method, Keys(speaker, extractor)
