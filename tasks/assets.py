"""Files that do not ship with the project: weights and head models, described in data/assets.toml."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import MissingAssetError, UsageError, did_you_mean
from tasks.places import Places

MOST_BYTES = 2_000_000_000  # of a download of which no size is known

FREE_LICENCES = {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "MPL-2.0", "CC0-1.0", "CC-BY-4.0"}


@dataclass(frozen=True)
class Source:
    """One file that an asset is, or is made from."""

    file: str
    url: str = ""  # none: a person has to get it at the asset's page
    bytes: int = 0  # 0: not known
    sha256: str = ""  # none: not known
    digest: str = ""  # "sha1:..." or "git:...", where that is what is known
    at_most: int = 0  # bytes, where the size is not known
    member: str = ""  # the name of the file in this archive that is meant

    @property
    def most(self) -> int:
        """The most bytes that a download may have."""
        return self.bytes or self.at_most or MOST_BYTES


@dataclass(frozen=True)
class Asset:
    """One entry of data/assets.toml. What is downloaded as it is has the fields of a `Source`; the others name theirs.

    Attributes:
        name: what commands call it.
        file: where it lies in data/assets/.
        licence: its short name, or what it comes to.
        what: what it is.
        use: what it is for.
        optional: the default tools do without it.
        page: where a person reads the licence, and where only a registered person gets the files.
        hub: the repository on the Hugging Face hub that has the file; its cache is looked through as well.
        convert: "module:function" that makes the file from its sources.
        sources: what it is made from.
        base: where sources come from of which only a list exists.
        sums: that list, as sha256sum writes it, in data/.
    """

    name: str
    file: str
    licence: str
    what: str
    url: str = ""
    sha256: str = ""
    bytes: int = 0
    digest: str = ""
    at_most: int = 0
    use: str = ""
    optional: bool = False
    page: str = ""
    hub: str = ""
    convert: str = ""
    sources: tuple[Source, ...] = ()
    base: str = ""
    sums: str = ""

    @property
    def download_bytes(self) -> int:
        """How much there is to download, 0 where that is not known."""
        known = self.sources and all(source.bytes for source in self.sources)
        return self.bytes or (sum(source.bytes for source in self.sources) if known else 0)

    @property
    def size(self) -> str:
        """How much there is to download, in words."""
        if self.download_bytes:
            return in_words(self.download_bytes)
        most = self.at_most or sum(source.bytes or source.at_most for source in self.sources)
        return f"unknown, at most {in_words(most)}" if most and not self.gated else "unknown"

    @property
    def free(self) -> bool:
        """Whether its licence asks nobody to accept it."""
        return self.licence in FREE_LICENCES

    @property
    def plain(self) -> bool:
        """Whether what is downloaded is the asset as it is."""
        return not (self.convert or self.sources)

    @property
    def gated(self) -> bool:
        """Whether a person has to get it, or a part of it, under their own name."""
        return not (self.url or self.sums or (self.sources and all(source.url for source in self.sources)))


def read_assets(places: Places) -> dict[str, Asset]:
    """Return all entries of data/assets.toml by name.

    Raises:
        UsageError: there is no such list here, or an entry has a field that there is not.
    """
    path = places.root / "data" / "assets.toml"
    if not path.is_file():
        why = "it says which weights there are, and they lie beside it"
        raise UsageError(f"{path}: no such file", why, "run this in a gausstalk project, after gausstalk fetch")
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _asset(name, entry) for name, entry in data.items()}


def _asset(name: str, entry: dict[str, Any]) -> Asset:
    try:
        sources = tuple(Source(**source) for source in entry.pop("sources", ()))
        return Asset(name=name, sources=sources, **entry)
    except TypeError as error:
        raise UsageError(f"data/assets.toml: {name} is not an asset", str(error), "correct that field") from error


def sources_of(places: Places, asset: Asset) -> tuple[Source, ...]:
    """Return the files that an asset is made from: its own, those that its list names, or itself."""
    if asset.sums:
        lines = (places.root / "data" / asset.sums).read_text(encoding="utf-8").splitlines()
        pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
        at_most = asset.at_most // max(1, len(pairs))
        return tuple(Source(file, asset.base + file, sha256=sha256, at_most=at_most) for sha256, file in pairs)
    if asset.sources:
        return asset.sources
    if not asset.url:
        return ()
    return (Source(asset.file, asset.url, asset.bytes, asset.sha256, asset.digest, asset.at_most),)


def folders(places: Places) -> list[Path]:
    """Return where files of assets are looked for: data/assets, then $GAUSSTALK_ASSETS and two folders in it."""
    found = [places.root / "data" / "assets"]
    shared = os.environ.get("GAUSSTALK_ASSETS")
    if shared:
        found += [Path(shared), Path(shared) / "weights", Path(shared) / "model3d"]
    return found


def candidates(places: Places, asset: Asset) -> list[Path]:
    """Return where an asset may lie: the `folders`, then the hub's cache.

    Beside weights of the hub, the same in the form of safetensors is taken first.
    """
    paths = [folder / asset.file for folder in folders(places)]
    if asset.hub:
        snapshots = _hub_cache() / f"models--{asset.hub.replace('/', '--')}" / "snapshots"
        paths += [folder / Path(asset.file).name for folder in sorted(snapshots.glob("*"))]
        paths = [either for path in paths for either in (path.with_name("model.safetensors"), path)]
    return paths


def _hub_cache() -> Path:
    """Return where the hub's own tools keep what they have downloaded."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def known_asset(places: Places, name: str) -> Asset:
    """Return an entry of data/assets.toml.

    Raises:
        UsageError: there is none of that name.
    """
    assets = read_assets(places)
    if name not in assets:
        fix = did_you_mean(name, assets, "gausstalk fetch --list shows what each is for")
        raise UsageError(f"no asset {name!r}", f"data/assets.toml knows {', '.join(sorted(assets))}", fix)
    return assets[name]


def find_asset(places: Places, name: str) -> Path:
    """Return the path of an asset that is on this machine.

    Raises:
        UsageError: data/assets.toml does not know the name.
        MissingAssetError: it is not here; the message names licence, size and the command that gets it.
    """
    asset = known_asset(places, name)
    path = first_here(places, asset)
    if path:
        return path
    raise MissingAssetError(
        f"the asset {name} is not on this machine",
        f"{asset.what}; size: {asset.size}, licence: {asset.licence}",
        f"gausstalk fetch {name}   (or point GAUSSTALK_ASSETS to a folder that has {asset.file})",
    )


def first_here(places: Places, asset: Asset) -> Path | None:
    """Return where an asset lies, None if it is not on this machine."""
    return next((path for path in candidates(places, asset) if path.is_file()), None)


def in_words(size: int) -> str:
    """Return a number of bytes as a person writes it."""
    return f"{size / 1e3:.0f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
