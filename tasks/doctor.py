"""What stands between this machine and a run: checks that each say what they found and what mends it."""

from __future__ import annotations

import ctypes.util
import difflib
import importlib.metadata
import importlib.util
import os
import pkgutil
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.errors import GausstalkError, MissingAssetError, UsageError
from tasks import dag
from tasks.assets import first_here, read_assets
from tasks.device import look_for_cuda
from tasks.imports import KEY, wrong_imports
from tasks.kernels import cache_folder
from tasks.lists import LISTS, wrong_lists
from tasks.params import OF_ALL_STAGES, names_listed, read_yaml, resolve_params
from tasks.people import load_drive, load_speaker
from tasks.perceptual import network_of
from tasks.places import Places
from tasks.stage import Stage, threads

GIB = 2**30
LEAST_MEMORY_GIB, LEAST_DISK_GIB = 4.0, 5.0
OTHER_KEYS = (*LISTS, *OF_ALL_STAGES, KEY)  # of params.yaml, that are no stage's section
PORTS = {"Prefect": 4200, "MLflow": 5000}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    name: str
    state: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def examine(places: Places) -> list[Finding]:
    """Run all checks; none of them raises."""
    checks: list[Callable[[Places], Iterator[Finding]]] = [
        _python,
        _packages,
        _machine,
        _graphics,
        _ports,
        _assets,
        _people,
        _params,
        _graph,
    ]
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(places)
        except (GausstalkError, OSError, ValueError) as error:
            findings.append(_failed(check.__name__.strip("_"), error))
    return findings


def _failed(name: str, error: Exception) -> Finding:
    if not isinstance(error, GausstalkError):
        return Finding(name, "fail", str(error))
    return Finding(name, "fail", ": ".join(filter(None, (error.what, error.why))), error.fix)


def as_rows(findings: list[Finding]) -> list[dict[str, Any]]:
    """Return findings as plain dictionaries."""
    return [asdict(finding) for finding in findings]


def _python(places: Places) -> Iterator[Finding]:
    version = platform.python_version()
    good = sys.version_info >= (3, 11)
    yield Finding(
        "python", "ok" if good else "fail", f"{version}, {sys.executable}", "" if good else "install Python 3.11"
    )
    spec = importlib.util.find_spec("models")
    where = Path(spec.origin).resolve().parents[1] if spec and spec.origin else None
    if where == places.root:
        yield Finding("project", "ok", str(places.root))
    else:
        yield Finding(
            "project",
            "fail",
            f"'import models' gives {where}, not {places.root}",
            "another package of that name comes first: install this one with `pip install -e .` in a fresh environment",
        )


def _packages(_places: Places) -> Iterator[Finding]:
    try:
        wanted = importlib.metadata.requires("gausstalk") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "warn", "gausstalk is not installed", "pip install -e . -c constraints.txt")
        return
    missing = []
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name and "extra ==" not in requirement:
            try:
                importlib.metadata.version(name.group())
            except importlib.metadata.PackageNotFoundError:
                missing.append(name.group())
    state: Literal["ok", "fail"] = "fail" if missing else "ok"
    shown = ("torch", "numba", "mediapipe", "dvc", "prefect", "mlflow")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in shown if name not in missing)
    yield Finding(
        "packages", state, f"missing: {', '.join(missing)}" if missing else versions, "make install" if missing else ""
    )
    both = [name for name in ("opencv-python", "opencv-python-headless") if _installed(name)]
    if both and _installed("opencv-contrib-python"):
        yield Finding(
            "opencv",
            "warn",
            f"{', '.join(both)} and opencv-contrib-python overwrite each other's files",
            f"pip uninstall {' '.join(both)}; pip install --force-reinstall --no-deps opencv-contrib-python",
        )


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _machine(places: Places) -> Iterator[Finding]:
    import psutil

    yield Finding("cores", "ok", f"{len(os.sched_getaffinity(0))}, of which a stage uses {threads()}")
    memory = psutil.virtual_memory()
    enough = memory.available / GIB >= LEAST_MEMORY_GIB
    yield Finding(
        "memory",
        "ok" if enough else "warn",
        f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free",
        "" if enough else f"close other programs; training at 256x256 needs about {LEAST_MEMORY_GIB:.0f} GiB",
    )
    disk = shutil.disk_usage(places.root)
    enough = disk.free / GIB >= LEAST_DISK_GIB
    yield Finding(
        "disk",
        "ok" if enough else "warn",
        f"{disk.free / GIB:.1f} GiB free",
        "" if enough else f"a speaker needs about {LEAST_DISK_GIB:.0f} GiB; `dvc gc -w` drops old results",
    )
    kept = cache_folder()
    yield Finding(
        "kernels",
        "ok" if kept else "warn",
        f"compiled once, kept in {kept}" if kept else "compiled anew by every process: no folder to keep them in",
        "" if kept else "set NUMBA_CACHE_DIR to a folder that can be written to",
    )
    found = ctypes.util.find_library("gomp") or ctypes.util.find_library("omp")
    yield Finding("openmp", "ok", found or "none; Numba then uses its own threads")


def _graphics(_places: Places) -> Iterator[Finding]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield Finding("gpu", "ok", "none; everything runs on the CPU")
        return
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 - fixed words
    name = "; ".join(answer.stdout.split("\n")).strip("; ") or "nvidia-smi gives nothing"
    here, missing = look_for_cuda()
    if missing is None:
        yield Finding("gpu", "ok", f"{name}; run and say compute on it")
        return
    yield Finding("gpu", "warn", f"{name}; {missing.what if here else 'torch sees no CUDA device'}", missing.fix)


def _ports(_places: Places) -> Iterator[Finding]:
    for name, port in PORTS.items():
        with socket.socket() as probe:
            probe.settimeout(0.5)
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        text = f"{name}'s port {port} is {'in use; `gausstalk ui` takes the next free one' if taken else 'free'}"
        yield Finding(f"port {port}", "ok", text)


def _assets(places: Places) -> Iterator[Finding]:
    absent = []
    for name, asset in read_assets(places).items():
        path = first_here(places, asset)
        if path is None and asset.optional:
            absent.append(name)
        elif path is None:
            found = f"not here (size: {asset.size}; {asset.licence}): {asset.what}"
            yield Finding(f"asset {name}", "warn", found, f"gausstalk fetch {name}")
        elif asset.plain and asset.bytes and path.name == Path(asset.file).name and path.stat().st_size != asset.bytes:
            got = f"{path} has {path.stat().st_size} bytes, not {asset.bytes}"
            yield Finding(f"asset {name}", "fail", got, f"delete it, then: gausstalk fetch {name}")
        else:
            yield Finding(f"asset {name}", "ok", str(path))
    if absent:
        yield Finding("assets", "ok", f"optional, not here: {', '.join(absent)}; gausstalk fetch --list tells more")


def _people(places: Places) -> Iterator[Finding]:
    for key, load in (("speakers", load_speaker), ("drives", load_drive)):
        for name in names_listed(places.params, key):
            what = f"{key[:-1]} {name}"
            try:
                person = load(places, name)
            except GausstalkError as error:
                yield _failed(what, error)
            else:
                about = (f"basis {person.basis}", person.language, person.gender)
                yield Finding(what, "ok", ", ".join(filter(None, about)))


def _params(places: Places) -> Iterator[Finding]:
    wrong = wrong_params(places)
    yield from (_failed("params", error) for error in wrong)
    if not wrong:
        yield Finding("params", "ok", "every section of params.yaml is valid")


def wrong_params(places: Places) -> list[UsageError]:
    """Return what is wrong with the sections of params.yaml, each as an error that says what mends it."""
    wrong = wrong_lists(places) or wrong_imports(places)
    for section in read_yaml(places.params):
        if section in OTHER_KEYS:
            continue
        stage = _stage_of(section)
        try:
            if stage is None:
                near = _nearest_key(str(section))
                fix = f"did you mean {near!r}?" if near else "remove it"
                raise UsageError(f"params.yaml: no stage {section!r} has params", "nothing reads it", fix)
            resolve_params(places.params, section, stage.params, stage.presets)
        except UsageError as error:
            wrong.append(error)
    return list({error.what: error for error in wrong}.values())  # a preset is asked for by many stages


def _nearest_key(section: str) -> str | None:
    modules = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    near = difflib.get_close_matches(section, [*OTHER_KEYS, *modules])
    return next((name for name in near if name in OTHER_KEYS or _stage_of(name) is not None), None)


def missing_networks(places: Places, stages: Iterable[str]) -> list[MissingAssetError]:
    """Return an error for every stage whose losses need weights that are not here: the last may train hours later."""
    missing = []
    for name in sorted(stages):
        stage = _stage_of(name)
        if stage is None or not stage.presets:
            continue
        params, _ = resolve_params(places.params, name, stage.params, stage.presets)
        try:
            network_of(places, name, getattr(params, "phase", None))
        except MissingAssetError as error:
            missing.append(error)
    return missing


def _stage_of(section: str) -> Stage[Any] | None:
    """Return the stage of that name, None if there is none."""
    if not str(section).isidentifier() or importlib.util.find_spec(f"tasks.{section}") is None:
        return None
    return getattr(importlib.import_module(f"tasks.{section}"), "STAGE", None)


def _graph(places: Places) -> Iterator[Finding]:
    changed = dag.check(places)
    if changed:
        yield Finding(
            "dvc.yaml", "fail", f"the code of {', '.join(changed)} is not what they import", "gausstalk dag --write"
        )
    else:
        yield Finding("dvc.yaml", "ok", "every stage depends on the code that it imports")
