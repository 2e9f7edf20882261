"""Downloads assets: into a .part file that the next try continues, verified, then renamed."""

from __future__ import annotations

import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from models.errors import ConsentError, GausstalkError, MachineError, MissingAssetError, UsageError
from tasks.assets import Asset, candidates, read_assets, sha256_of
from tasks.places import Places
from tasks.progress import Progress

FREE_LICENCES = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0"}
BLOCK = 1 << 18
TIMEOUT_S = 30.0
TRIES = 3
log = logging.getLogger("gausstalk")


def fetch(places: Places, name: str, accept: bool = False) -> Path:
    """Bring one asset of data/assets.toml into data/assets/, unless it is on this machine, and return its path.

    Args:
        places: the project.
        name: of the asset.
        accept: the user accepts a licence that is not one of `FREE_LICENCES`.

    Raises:
        UsageError: no such asset.
        ConsentError: its licence has to be accepted.
        MissingAssetError: it cannot be downloaded by a program, or what came is not the file that was meant.
        MachineError: the network or the disk is in the way; what has arrived is kept for the next try.
    """
    assets = read_assets(places)
    if name not in assets:
        raise UsageError(f"no asset {name!r}", f"data/assets.toml knows {', '.join(sorted(assets))}")
    asset = assets[name]
    for path in candidates(places, asset):
        if path.is_file() and sha256_of(path) == asset.sha256:
            log.info("%s is here already: %s", name, path)
            return path
    target = places.root / "data" / "assets" / asset.file
    if not asset.url or asset.gated:
        how = f"get it at {asset.url} under your own name" if asset.url else asset.what
        raise MissingAssetError(
            f"{name} cannot be downloaded by a program",
            f"{asset.what}; licence: {asset.licence}" if asset.url else f"licence: {asset.licence}",
            f"{how}; put it into {target.relative_to(places.root)} or into a folder that GAUSSTALK_ASSETS names",
        )
    if asset.licence not in FREE_LICENCES and not accept:
        raise ConsentError(
            f"the licence of {name} has to be accepted: {asset.licence}",
            f"{asset.what}, from {asset.url}",
            f"read it, then: gausstalk fetch {name} --accept",
        )
    log.info("%s: %s; %.1f MB, licence: %s", name, asset.what, asset.bytes / 1e6, asset.licence)
    return _download(asset, target)


def _download(asset: Asset, target: Path) -> Path:
    address = urllib.parse.urlsplit(asset.url)
    if address.scheme != "https" and address.hostname != "127.0.0.1":
        raise UsageError(f"{asset.name}: {asset.url} is not an https address", "data/assets.toml has it")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    for attempt in range(1, TRIES + 1):
        try:
            _receive(asset, part)
            break
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            have = part.stat().st_size if part.is_file() else 0
            final = isinstance(error, urllib.error.HTTPError) and error.code < 500
            if attempt == TRIES or final:
                raise MachineError(
                    f"{asset.name}: the download stopped at {have / 1e6:.1f} of {asset.bytes / 1e6:.1f} MB",
                    str(error),
                    f"gausstalk fetch {asset.name} goes on from there; or put {asset.url} into {target} yourself",
                ) from error
            log.info("%s: %s; trying again", asset.name, error)
            time.sleep(attempt)
    digest = sha256_of(part)
    if digest != asset.sha256:
        size = part.stat().st_size
        part.unlink()
        raise MissingAssetError(
            f"{asset.name}: what came is not the file that was meant, and is deleted",
            f"sha256 {digest} ({size} bytes), expected {asset.sha256} ({asset.bytes} bytes)",
            f"check {asset.url}; the file there may have been changed",
        )
    os.replace(part, target)
    log.info("%s: %s", asset.name, target)
    return target


def _receive(asset: Asset, part: Path) -> None:
    """Append to `part` what is missing of the file.

    Raises:
        MissingAssetError: the server sends more than the file has.
        ConnectionError: it stops before the end.
    """
    have = part.stat().st_size if part.is_file() else 0
    if have >= asset.bytes:
        return
    request = urllib.request.Request(asset.url, headers={"User-Agent": "gausstalk"})  # noqa: S310 - checked by caller
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked by caller
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
        if answer.status != 206 or not start or int(start.group(1)) != have:
            have = 0  # a server that does not continue sends everything
        progress = Progress(f"fetch {asset.name}", asset.bytes, "bytes")
        progress.update(have)
        with part.open("ab" if have else "wb") as file:
            while block := answer.read(BLOCK):
                have += len(block)
                if have > asset.bytes:
                    raise MissingAssetError(
                        f"{asset.name}: the server sends more than {asset.bytes} bytes", "", f"check {asset.url}"
                    )
                file.write(block)
                progress.update(len(block))
        if have < asset.bytes:
            raise ConnectionError(f"the connection ended after {have} of {asset.bytes} bytes")
        progress.finish()


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
            if len(names) > 1:
                log.error("%s", error)
    if failures:
        raise failures[0]
    return found
