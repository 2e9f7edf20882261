"""The stages of dvc.yaml, what needs what, and what is out of date: read from DVC's own index.

DVC has no public call that gives this, so this module, and no other, uses DVC's internals; its test is the contract.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.errors import BusyError, UsageError, did_you_mean
from tasks.methods import Method, method_of
from tasks.places import Keys, keys_of


@dataclass(frozen=True)
class Item:
    """One stage of dvc.yaml for one speaker, extractor and drive."""

    name: str  # DVC's address, for example tg_face@demo-logmel
    stage: str  # tg_face
    keys: Keys
    needs: tuple[str, ...] = ()  # names of the items whose outputs it reads
    changed: bool = False  # DVC has something to do for it, or for one of those


@dataclass(frozen=True)
class Plan:
    """What a run of some speakers has to do, whole and in three parts, each in an order in which it could be done."""

    items: tuple[Item, ...]
    shared: tuple[Item, ...]  # of no speaker, and speakers need it; it may itself need something of speakers
    of_speakers: dict[str, tuple[Item, ...]]
    closing: tuple[Item, ...]  # of no speaker, after them: tables, report


def read_plan(
    root: Path, speakers: Sequence[str] = (), extractors: Sequence[str] = (), method: Method | None = None
) -> Plan:
    """Read dvc.yaml and return what belongs to `speakers`, `extractors` and `method` (none given: all).

    Raises:
        UsageError: DVC cannot use dvc.yaml or params.yaml, or a speaker or extractor is not in params.yaml.
        BusyError: a stage is being run by somebody else right now.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(root), _wait_for_lock=True) as repo:
            stages, edges = _stages(repo)
            chosen = _choose(stages, edges, speakers, extractors, method)
            with repo.lock:
                changed = _changed(chosen, {name: stages[name][0] for name in chosen}, edges)
    except LockError as error:
        raise BusyError(
            "DVC is busy with a stage of this project", str(error), "wait for the other run to end, or stop it"
        ) from error
    except DvcException as error:
        raise _unusable(root, error) from error
    items = {}
    for name in chosen:
        needs = tuple(need for need in edges[name] if need in chosen)
        items[name] = replace(stages[name][1], needs=needs, changed=changed[name])
    return _parts(items)


def _unusable(root: Path, error: Exception) -> UsageError:
    """Say what DVC has against the project, in our form."""
    from dvc.exceptions import NotDvcRepoError

    if isinstance(error, NotDvcRepoError):
        return UsageError(f"{root} is no DVC project", str(error), "cd into a checkout of gausstalk")
    if "not a git repository" in str(error):
        return UsageError(str(error), "DVC expects one", "dvc config --local core.no_scm true")
    return UsageError("DVC cannot use this project", str(error), "correct dvc.yaml or params.yaml")


def _stages(repo: Any) -> tuple[dict[str, tuple[Any, Item]], dict[str, list[str]]]:
    """Return every stage by name, dependencies first, and the names that each one needs."""
    import networkx
    from dvc.stage import PipelineStage

    graph = repo.index.graph  # an edge leads from a stage to one that it needs
    # A .dvc file is no stage of dvc.yaml: nothing is run for it, and what it tracks a stage reads from the disk.
    graph = graph.subgraph([stage for stage in graph if isinstance(stage, PipelineStage)])
    stages = {}
    for stage in networkx.dfs_postorder_nodes(graph):
        command = stage.cmd if isinstance(stage.cmd, str) else " ".join(stage.cmd or [])
        stages[stage.name] = (stage, Item(stage.name, stage.name.split("@")[0], keys_of(command)))
    return stages, {stage.name: sorted(need.name for need in graph.successors(stage)) for stage in graph}


def _choose(
    stages: dict[str, tuple[Any, Item]],
    edges: dict[str, list[str]],
    speakers: Sequence[str],
    extractors: Sequence[str],
    method: Method | None,
) -> list[str]:
    """Return the names of what is wanted, dependencies first."""
    items = {name: item for name, (_, item) in stages.items()}
    check_known("speaker", speakers, (item.keys.speaker for item in items.values()))
    check_known("extractor", extractors, (item.keys.extractor for item in items.values()))
    wanted = {
        name: item.keys.speaker
        for name, item in items.items()
        if (not speakers or item.keys.speaker in (None, *speakers))
        and (not extractors or item.keys.extractor in (None, *extractors))
        and (method is None or method_of(item.stage) in (None, method))
    }
    own = [name for name, speaker in wanted.items() if speaker is not None]
    before = _reach(own, edges)
    after = {
        name
        for name, item in items.items()
        if item.keys.speaker is None and _reach([name], edges) & set(own) and name not in before
    }
    if not speakers:  # the report is made even where nobody is left to be in it; footage only for somebody
        after |= {name for name in wanted.keys() - before if items[name].keys == Keys() and name != "demo"}
    return [name for name in items if name in after or name in own or (name in before and not items[name].keys.speaker)]


def check_known(what: str, wanted: Sequence[str], names: Iterable[str | None]) -> None:
    """Refuse whoever or whatever is none of the names.

    Raises:
        UsageError: it names those that there are.
    """
    known = sorted({name for name in names if name})
    for name in wanted:
        if name not in known:
            add = f"gausstalk add-speaker {name} VIDEO --consent FILE" if what == "speaker" else f"add it to {what}s"
            raise UsageError(
                f"no {what} {name!r} in this project",
                f"params.yaml: {what}s lists {', '.join(known) or 'none'}",
                did_you_mean(name, known, f"{add}; or correct the name"),
            )


def _reach(names: Iterable[str], edges: dict[str, list[str]]) -> set[str]:
    """Return everything that `names` need, directly or not, and they themselves."""
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(edges[name])
    return seen


def _changed(names: list[str], stages: dict[str, Any], edges: dict[str, list[str]]) -> dict[str, bool]:
    """Ask DVC what is out of date; whatever needs something out of date is so too."""
    changed: dict[str, bool] = {}
    for name in names:
        changed[name] = any(changed.get(need, False) for need in edges[name]) or bool(stages[name].changed())
    return changed


def _parts(items: dict[str, Item]) -> Plan:
    edges = {name: list(item.needs) for name, item in items.items()}
    own = [item for item in items.values() if item.keys.speaker]
    needed = _reach((item.name for item in own), edges)
    of_speakers: dict[str, tuple[Item, ...]] = {}
    for item in own:
        of_speakers[str(item.keys.speaker)] = (*of_speakers.get(str(item.keys.speaker), ()), item)
    others = [item for item in items.values() if not item.keys.speaker]
    return Plan(
        items=tuple(items.values()),
        shared=tuple(item for item in others if item.name in needed),
        of_speakers=of_speakers,
        closing=tuple(item for item in others if item.name not in needed),
    )
