"""Downloads one file over https: into a .part file that the next try continues, verified, then renamed."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

from models.errors import FULL, MachineError, MissingAssetError, UsageError
from tasks.assets import Source, sha256_of
from tasks.progress import Progress

BLOCK = 1 << 18
TIMEOUT_S = 30.0
TRIES = 3
REDIRECTS = 5
SPARE = 32 << 20  # bytes of the disk that are left to others
log = logging.getLogger("gausstalk")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, none of which may leave https."""

    def redirect_request(  # type: ignore[override]
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        hops = getattr(req, "hops", 0) + 1
        if hops > REDIRECTS:
            raise MissingAssetError(
                f"the server redirects in circles: more than {REDIRECTS} times",
                f"the last time to {newurl}",
                "try again later, or get the file with a browser",
            )
        _check(newurl, req.full_url)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None:
            request.hops = hops  # type: ignore[attr-defined]
        return request


def _check(url: str, origin: str = "") -> None:
    """Refuse what is not https; a server on this machine may stay there.

    Raises:
        UsageError: it is the address that was asked for.
        MissingAssetError: a server wants us to go there.
    """
    address = urllib.parse.urlsplit(url)
    local = address.hostname == "127.0.0.1" and urllib.parse.urlsplit(origin or url).hostname == "127.0.0.1"
    if address.scheme == "https" or (address.scheme == "http" and local):
        return
    if not origin:
        raise UsageError(f"{url} is not an https address", "data/assets.toml has it")
    raise _elsewhere(origin, url)


def _elsewhere(origin: str, url: str | None) -> MissingAssetError:
    return MissingAssetError(f"{origin} redirects to {url}", "only https is followed", "get the file with a browser")


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens https and http addresses, and nothing else: no files, no ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def download(source: Source, target: Path, label: str, recorded: str = "", show: bool = True) -> None:
    """Bring a file to `target`.

    Args:
        source: where it is, and what is known of it.
        target: where it goes; `target`.part beside it is continued, and left where the network or the disk fails.
        label: what messages call it.
        recorded: the sha256 that an earlier download had, where data/assets.toml has none.
        show: tell how far it is.

    Raises:
        UsageError: the address is not https.
        MissingAssetError: what came, or would come, is not the file that was meant; nothing is left of it.
        MachineError: the network or the disk is in the way; what has arrived is kept for the next try.
    """
    _check(source.url)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    wanted = source.sha256 or recorded
    for attempt in range(1, TRIES + 1):
        continued = part.is_file()
        try:
            _receive(source, part, label, bool(wanted), show)
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if isinstance(error, urllib.error.HTTPError) and 300 <= error.code < 400:
                raise _elsewhere(source.url, error.url) from error
            if attempt == TRIES or (isinstance(error, urllib.error.HTTPError) and error.code < 500):
                raise _stopped(source, part, target, label, error) from error
            log.info("%s: %s; trying again", label, error)
            time.sleep(attempt)
            continue
        except OSError as error:
            if error.errno not in (*FULL, errno.EFBIG):
                raise
            raise MachineError(
                f"{label}: the disk is full after {_size(part)}",
                str(error),
                f"free some space, then: gausstalk fetch {label.split()[0]} goes on from there (or delete {part})",
            ) from error
        digest = sha256_of(part)
        wrong = _difference(source, part, digest, wanted)
        if not wrong:
            os.replace(part, target)
            _tag(part).unlink(missing_ok=True)
            return
        part.unlink()
        _tag(part).unlink(missing_ok=True)
        if not continued:  # otherwise two versions of the file may have been joined
            raise MissingAssetError(
                f"{label}: what came is not the file that was meant, and is deleted",
                wrong,
                f"check {source.url}; the file there may have been changed",
            )
        log.info("%s: what was left of an earlier try does not fit; starting again", label)
    raise MissingAssetError(f"{label}: what comes is not the file that was meant", wrong, f"check {source.url}")


def _difference(source: Source, part: Path, digest: str, wanted: str) -> str:
    """Return in what a whole download differs from what is known of the file, nothing if it does not."""
    size = part.stat().st_size
    if wanted and digest != wanted:
        known = "expected" if source.sha256 else "an earlier download had"
        return f"sha256 {digest} ({size} bytes), {known} {wanted}"
    if source.bytes and size != source.bytes:
        return f"{size} bytes, expected {source.bytes}"
    if source.digest and not matches(part, source.digest):
        return f"it has not the checksum {source.digest}"
    return ""


def matches(path: Path, digest: str) -> bool:
    """Return whether a file has a checksum "sha1:..." or "git:..." (the name that git gives to its content)."""
    kind, wanted = digest.split(":", 1)
    state = hashlib.sha1(usedforsecurity=False)
    if kind == "git":
        state.update(f"blob {path.stat().st_size}\0".encode())
    elif kind != "sha1":
        raise UsageError(f"no checksum is called {kind!r}", "data/assets.toml has it", "use sha1 or git")
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest() == wanted


def _stopped(source: Source, part: Path, target: Path, label: str, error: Exception) -> MachineError:
    whole = f" of {source.bytes / 1e6:.1f} MB" if source.bytes else ""
    name, by_hand = label.split()[0], f"put the file into {target} yourself"
    if not part.is_file() and isinstance(getattr(error, "reason", None), OSError):
        host = urllib.parse.urlsplit(source.url).hostname
        why, fix = f"{error}; it is wanted for {source.url}", f"gausstalk fetch {name} with a network; or {by_hand}"
        return MachineError(f"{label}: {host} cannot be reached", why, fix)
    return MachineError(
        f"{label}: the download stopped at {_size(part)}{whole}",
        f"{source.url}: {error}",
        f"gausstalk fetch {name} goes on from there; or {by_hand}",
    )


def _size(part: Path) -> str:
    return f"{(part.stat().st_size if part.is_file() else 0) / 1e6:.1f} MB"


def _tag(part: Path) -> Path:
    """Return where the server's name for the version of the file lies."""
    return part.with_name(part.name + ".tag")


def _receive(source: Source, part: Path, label: str, verified: bool, show: bool) -> None:
    """Append to `part` what is missing of the file.

    Raises:
        MissingAssetError: the server offers or sends a file of another size, or a larger one than is allowed.
        MachineError: the disk has no room for it.
        ConnectionError: it stops before the end.
    """
    have = part.stat().st_size if part.is_file() else 0
    version = _tag(part).read_text(encoding="utf-8").strip() if _tag(part).is_file() else ""
    if have and (source.bytes and have > source.bytes or not (version or verified)):
        have = 0  # nothing would tell whether the rest belongs to it
    if source.bytes and have == source.bytes:
        return
    request = urllib.request.Request(source.url, headers={"User-Agent": "gausstalk"})  # noqa: S310 - checked by caller
    if have:
        request.add_header("Range", f"bytes={have}-")
        if version:
            request.add_header("If-Range", version)  # a server whose file has changed sends all of it
    try:
        answer = _opener().open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        size = re.match(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
        if size and int(size.group(1)) == have:
            return  # a try that was ended after the last byte
        part.unlink()  # more is here than there: it was another file
        raise ConnectionError("the file there is shorter than what is here") from error
    with answer:
        start = re.match(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range") or "")
        if answer.status != 206 or not start or int(start.group(1)) != have:
            have = 0  # a server that does not continue sends everything
            part.unlink(missing_ok=True)  # before the new version is noted: the two are never joined
        if answer.headers.get_content_type() == "text/html":
            raise MissingAssetError(
                f"{label}: the server sends a web page instead of the file", "", f"look at {source.url} with a browser"
            )
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else source.bytes
        _check_size(source, total, label)
        _check_room(part, total - have, label)
        tag = answer.headers.get("ETag") or ""
        version = tag if tag.startswith('"') else answer.headers.get("Last-Modified") or ""
        _tag(part).write_text(version, encoding="utf-8")
        progress = Progress(f"fetch {label}", -(-(total - have) // 1_000_000), "MB")
        with part.open("ab") as file:
            while block := answer.read1(BLOCK):
                if have + len(block) > (total or source.most):
                    part.unlink()
                    raise MissingAssetError(
                        f"{label}: the server sends more than {total or source.most} bytes", "", f"check {source.url}"
                    )
                file.write(block)
                if show and total:
                    progress.update((have + len(block)) // 1_000_000 - have // 1_000_000)
                have += len(block)
            file.flush()
            os.fsync(file.fileno())
        if have < total:
            raise ConnectionError(f"the connection ended after {have} of {total} bytes")
        if not (total or verified or getattr(answer, "chunked", False)):
            part.unlink()
            raise MissingAssetError(f"{label}: the server does not say how long the file is", "", "get it by hand")
        if show:
            progress.finish()


def _check_size(source: Source, total: int, label: str) -> None:
    if source.bytes and total != source.bytes:
        raise MissingAssetError(
            f"{label}: the server offers {total} bytes, the file has {source.bytes}", "", f"check {source.url}"
        )
    if total > source.most:
        raise MissingAssetError(
            f"{label}: the server offers {total / 1e6:.0f} MB, at most {source.most / 1e6:.0f} MB are expected",
            "",
            f"check {source.url}",
        )


def _check_room(part: Path, missing: int, label: str) -> None:
    free = shutil.disk_usage(part.parent).free
    if missing + SPARE > free:
        raise MachineError(
            f"{label}: the disk has {free / 1e6:.0f} MB left, and {missing / 1e6:.0f} MB are to come",
            f"{part.parent}",
            "free some space, then run it again",
        )
