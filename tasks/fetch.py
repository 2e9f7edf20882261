"""Brings assets to this machine: licence, download, conversion, and a record of what came."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.errors import ConsentError, GausstalkError, InputError, MissingAssetError
from tasks import confined
from tasks.assets import Asset, Source, candidates, first_here, folders, known_asset, read_assets, sha256_of, sources_of
from tasks.download import download, matches
from tasks.places import Places
from tasks.progress import Progress

FEW = 5  # files, of each of which is told how far it is
log = logging.getLogger("gausstalk")


def fetch(places: Places, name: str, accept: bool = False) -> Path:
    """Bring one asset of data/assets.toml into data/assets/, unless it is on this machine, and return its path.

    Args:
        places: the project.
        name: of the asset.
        accept: the user accepts a licence that is not one of `assets.FREE_LICENCES`.

    Raises:
        UsageError: no such asset.
        ConsentError: its licence has to be accepted.
        MissingAssetError: a person has to get it, or what came is not the file that was meant.
        InputError: the files cannot be converted, or would run code.
        MachineError: the network, the disk or the memory is in the way; what has arrived is kept for the next try.
    """
    asset = known_asset(places, name)
    target = places.root / "data" / "assets" / asset.file
    with _alone(places, name):
        path = _here(places, asset)
        if path:
            log.info("%s is here already: %s", name, path)
            return path
        sources = sources_of(places, asset)
        records = Records(places)
        found = {source.file: _source_here(places, asset, source, records.sha256(source)) for source in sources}
        absent = [source for source in sources if found[source.file] is None]
        by_hand = [source.file for source in absent if not source.url]
        if by_hand or not sources:
            raise _by_hand(asset, by_hand or [asset.file])
        if absent:
            _ask(asset, accept)
        log.info("%s: %s; size: %s, licence: %s", name, asset.what, asset.size, asset.licence)
        plain = asset.plain
        store = target.parent if plain else _store(places, asset)
        many = Progress(f"fetch {name}", len(absent), "files") if len(absent) > FEW else None
        for source in absent:
            label = name if len(sources) == 1 else f"{name} ({source.file})"
            path = store / (target.name if plain else source.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            download(source, path, label, records.sha256(source), show=many is None)
            found[source.file] = path
            if many:
                many.update()
        # What was downloaded, now or by a try that was ended before it could convert it.
        came = {s: path for s in sources if (path := store / (target.name if plain else s.file)) == found[s.file]}
        if not plain:
            try:
                _make(asset, sources, {file: path for file, path in found.items() if path}, target)
            except (InputError, MissingAssetError):
                for source, path in came.items():
                    if not (source.sha256 or source.digest):  # perhaps it was the wrong one: it is brought again
                        path.unlink()
                raise
        for source, path in came.items():
            records.note(source, path)
        if not plain:
            shutil.rmtree(store, ignore_errors=True)
            with contextlib.suppress(OSError):
                store.parent.rmdir()
        log.info("%s: %s", name, target)
        return target


def _here(places: Places, asset: Asset) -> Path | None:
    """Return where an asset lies that is what it should be, as far as that is known."""
    for path in candidates(places, asset):
        if path.is_file() and (
            not asset.sha256 or path.name != Path(asset.file).name or sha256_of(path) == asset.sha256
        ):
            return path
    return None


def _source_here(places: Places, asset: Asset, source: Source, recorded: str) -> Path | None:
    """Return where a source lies: an earlier download, or what a person has put beside the assets.

    `recorded` is the sha256 of the first download, where data/assets.toml has none.

    Raises:
        MissingAssetError: a file of that name is another one.
    """
    if asset.plain:
        return None
    names = [source.file] + ([source.member, f"{Path(source.file).stem}/{source.member}"] if source.member else [])
    for folder in (_store(places, asset), *folders(places)):
        for name in names:
            path = folder / name
            if not path.is_file():
                continue
            wanted = source.sha256 or recorded
            if name != source.file or (
                (not wanted or sha256_of(path) == wanted) and (not source.digest or matches(path, source.digest))
            ):
                return path
            if not source.url:
                raise MissingAssetError(f"{path} is not the file that {asset.name} needs", source.sha256, asset.page)
    return None


def _store(places: Places, asset: Asset) -> Path:
    """Return where the sources of a conversion wait for it."""
    return places.root / "data" / "assets" / "sources" / asset.name


def _by_hand(asset: Asset, files: list[str]) -> MissingAssetError:
    """Return how to get what no program may download."""
    return MissingAssetError(
        f"{asset.name} cannot be downloaded by a program",
        f"{asset.what}; licence: {asset.licence}" + ("; given to registered persons only" if asset.page else ""),
        f"get {' and '.join(files)}{f' at {asset.page}' if asset.page else ''}, put it into data/assets/ or into a "
        f"folder that GAUSSTALK_ASSETS names, then: gausstalk fetch {asset.name}",
    )


def _ask(asset: Asset, accept: bool) -> None:
    if asset.free or accept:
        return
    raise ConsentError(
        f"the licence of {asset.name} has to be accepted: {asset.licence}",
        f"{asset.what}" + (f"; the licence: {asset.page}" if asset.page else ""),
        f"read it, then: gausstalk fetch {asset.name} --accept",
    )


def _make(asset: Asset, sources: tuple[Source, ...], found: dict[str, Path], target: Path) -> None:
    """Convert or unpack the sources in a confined process, and put the result where it belongs.

    Raises:
        GausstalkError: of the converter, or the result is not what was meant.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.making")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    inputs, members = {}, {}
    for source in sources:
        path = found[source.file]
        archive = source.member and path.name == Path(source.file).name
        name = source.member or Path(source.file).name
        inputs[name] = str(path.resolve())
        if archive:
            members[name] = source.member
    log.info("%s: converting, in a process of its own", asset.name)
    try:
        made = confined.run(confined.Job(inputs, members, asset.convert, target.name), folder)
        if asset.digest and not matches(made, asset.digest):
            raise MissingAssetError(f"{asset.name}: what came is not the file that was meant", asset.digest, asset.page)
        os.replace(made, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Records:
    """The checksums that first downloads had, in data/assets.lock: later ones must have the same.

    The file lies beside assets.toml, not beside the downloads, so that it outlives them and is committed: whoever
    clones the project gets the same files or an error.
    """

    HEAD = "# sha256 and address of downloads whose checksum was not known before; `gausstalk fetch` compares.\n"

    def __init__(self, places: Places) -> None:
        self.places, self.path = places, places.root / "data" / "assets.lock"

    def _all(self) -> dict[str, str]:
        if not self.path.is_file():
            return {}
        lines = self.path.read_text(encoding="utf-8").splitlines()
        pairs = (line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#"))
        return {url: digest for digest, url in pairs}

    def sha256(self, source: Source) -> str:
        """Return what an earlier download had, nothing if there was none or data/assets.toml knows it."""
        return "" if source.sha256 else self._all().get(source.url, "")

    def note(self, source: Source, path: Path) -> None:
        """Write down what a download had, where nothing else says it."""
        if source.sha256:
            return
        digest = sha256_of(path)
        with _alone(self.places, "records"):
            known = self._all()
            if known.get(source.url) == digest:
                return
            text = self.HEAD + "".join(f"{d} {url}\n" for url, d in sorted({**known, source.url: digest}.items()))
            part = self.path.with_name(self.path.name + ".part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, self.path)
        log.info("data/assets.lock: %s is from now on %s", source.file, digest)


@contextlib.contextmanager
def _alone(places: Places, name: str) -> Iterator[None]:
    """Wait until no other process fetches `name`.

    Whoever holds the lock takes its file away at the end, before it lets go. Who has waited then holds a file that is
    not there any more, and tries again with the one that is.
    """
    path = places.root / "data" / "assets" / f".{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("%s: another process fetches it; waiting", name)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_open(path, file.fileno()):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_open(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def fetch_all(places: Places, names: list[str], accept: bool = False) -> dict[str, Path]:
    """Fetch several assets; one that fails does not keep the others from coming.

    Raises:
        GausstalkError: the first failure, after all others have been tried.
    """
    found: dict[str, Path] = {}
    failures: list[GausstalkError] = []
    for name in names:
        try:
            found[name] = fetch(places, name, accept)
        except GausstalkError as error:
            failures.append(error)
    for error in failures[1:]:
        log.error("%s", error)
    if failures:
        raise failures[0]
    return found


def overview(places: Places) -> list[dict[str, Any]]:
    """Return what is known of every asset: for a table, and for programs."""
    rows = []
    for name, asset in read_assets(places).items():
        path = first_here(places, asset)
        url = asset.url or asset.base or next((source.url for source in asset.sources if source.url), "")
        state = "here" if path else "by hand" if asset.gated else "optional" if asset.optional else "missing"
        rows.append(
            {
                "name": name,
                "state": state,
                "here": path is not None,
                "where": str(path or urllib.parse.urlsplit(asset.page if asset.gated else url).hostname or "nowhere"),
                "bytes": asset.download_bytes,
                "size": asset.size,
                "licence": asset.licence,
                "gated": asset.gated,
                "optional": asset.optional,
                "use": asset.use or asset.what,
                "what": asset.what,
                "url": url,
                "page": asset.page,
            }
        )
    return rows
