"""Train the house's own SyncNet on the mouths and the sound of all speakers, and check it on what it has not seen."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from models.errors import ConsentError, UsageError
from models.records import TRAIN, Mouths, Weights
from tasks.params import Params, names_listed
from tasks.people import load_speaker
from tasks.places import Keys
from tasks.progress import Progress
from tasks.stage import Context, Stage, main

if TYPE_CHECKING:
    from models.sync.house_learning import Footage, Found

log = logging.getLogger("gausstalk")
LEAST_UNSEEN_S = 3.5  # of footage; with less, what is found of planted lags is chance. The demo has 3.6
SHOWN = 100  # points of the curve of the loss


class SyncHouseParams(Params):
    """Section `sync_house`."""

    steps_a_second: float = Field(5.0, gt=0)  # of material to learn from
    most_steps: int = Field(500, ge=1)
    least_seconds: float = Field(10.0, ge=0)  # of that material; with less nothing is learnt
    left_out: tuple[str, ...] = ()  # speakers that are only checked, whole, and not learnt from
    wanted: float = Field(0.9, gt=0, le=1)  # share of planted lags that must be found
    seed: int = Field(0, ge=0)


STAGE = Stage(name="sync_house", per=(), params=SyncHouseParams, reads=("mouths",), gives=Weights, lists=("speakers",))


def run(context: Context[SyncHouseParams]) -> Weights:
    """Give the network and its check; without enough material no network, and why.

    Raises:
        UsageError: a speaker that is to be left out is not listed.
    """
    import torch

    from models.sync.house import tensors_of
    from models.sync.house_learning import Found, Lessons, find_planted, learn

    torch.set_num_threads(1)  # small pictures: a second thread costs more than it gives
    started, params = time.monotonic(), context.params
    clips = footage_of(context)
    lessons = Lessons(list(clips.values()), params.seed)
    seconds = sum(int(clip.learnt.sum()) for clip in clips.values()) / 25
    quality: dict[str, Any] = {"learnt_s": round(seconds, 2), "speakers": sorted(clips)}
    if not lessons.starts or seconds < params.least_seconds:
        needed = f"{params.least_seconds:g} s of footage to learn from are needed in stretches without a cut"
        why = f"too little material: {seconds:.1f} s of {len(clips)} speaker{'' if len(clips) == 1 else 's'}; {needed}"
        log.warning("sync_house: %s", why)
        return Weights("sync_house", "none", {}, {}, {}, {**quality, "why": why})

    steps = max(1, min(params.most_steps, round(params.steps_a_second * seconds)))
    progress = Progress("sync_house", steps, "steps")
    network, losses = learn(lessons, steps, params.seed, lambda _, loss: progress.update(note=f"loss {loss:.3f}"))
    progress.finish()
    by_speaker = {name: find_planted(network, clip, ~clip.learnt) for name, clip in clips.items()}
    own = [found for name, found in by_speaker.items() if name not in params.left_out]
    quality["check"] = check_of(sum(own, Found()), by_speaker, params)
    quality |= {"steps": steps, "seconds": round(time.monotonic() - started, 2)}
    kept = np.unique(np.linspace(0, steps - 1, min(SHOWN, steps)).round().astype(int))
    curves = {"step": [float(k) for k in kept], "loss": [losses[k] for k in kept]}
    return Weights("sync_house", "trained", {}, tensors_of(network), curves, quality)


def footage_of(context: Context[SyncHouseParams]) -> dict[str, Footage]:
    """Return the mouths of every listed speaker that is there and may be used.

    A speaker who is not prepared yet, or whose consent has expired, is left out: the others need not wait for that.

    Raises:
        UsageError: a speaker that is to be left out is not listed.
    """
    from models.sync.house_learning import Footage

    names = names_listed(context.places.params, "speakers")
    for name in context.params.left_out:
        if name not in names:
            fix = f"add {name} to speakers, or take it out of sync_house.left_out"
            why = f"speakers: {', '.join(names) or 'none'}"
            raise UsageError(f"params.yaml: sync_house.left_out lists {name!r}", why, fix)
    clips = {}
    for name in names:
        if not context.places.record("mouths", Keys(speaker=name)).is_dir():
            log.warning("sync_house: %s is not prepared yet and is left out", name)
            continue
        try:
            load_speaker(context.places, name)
        except ConsentError as error:
            log.warning("sync_house: %s is left out: %s", name, error.what)
            continue
        mouths = context.read(Mouths, "mouths", speaker=name)
        learnt = (mouths.split == TRAIN) & (name not in context.params.left_out)
        clips[name] = Footage(mouths.pictures, mouths.seen, mouths.sound, mouths.cuts.tolist(), learnt)
    return clips


def check_of(found: Found, by_speaker: dict[str, Found], params: SyncHouseParams) -> dict[str, Any]:
    """Return what was found of planted lags: of all who were learnt from, and of each speaker."""
    enough = found.seconds >= LEAST_UNSEEN_S

    def told(one: Found) -> dict[str, Any]:
        return {"share": round(one.share, 4) if one.tried else None, **vars(one), "unseen_s": one.seconds}

    return {
        **told(found),
        "wanted": params.wanted,
        "reached": bool(found.share >= params.wanted) if enough else None,
        "speakers": {name: told(one) for name, one in by_speaker.items() if name not in params.left_out},
        "left_out": {name: told(by_speaker[name]) for name in params.left_out if name in by_speaker},
    }


if __name__ == "__main__":
    main(STAGE, run)
