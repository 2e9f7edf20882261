"""Files that do not ship with the project: weights and head models, described in data/assets.toml."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from models.errors import MissingAssetError, UsageError
from tasks.places import Places


@dataclass(frozen=True)
class Asset:
    """One entry of data/assets.toml."""

    name: str
    file: str
    url: str
    sha256: str
    bytes: int
    licence: str
    what: str
    gated: bool = False
    hub: str = ""  # the repository on the Hugging Face hub that has the file; its cache is looked through as well

    @property
    def size(self) -> str:
        """How large it is, in words."""
        return f"{self.bytes / 1e6:.1f} MB" if self.bytes else "of unknown size"


def read_assets(places: Places) -> dict[str, Asset]:
    """Return all entries of data/assets.toml by name."""
    data = tomllib.loads((places.root / "data" / "assets.toml").read_text(encoding="utf-8"))
    return {name: Asset(name=name, **entry) for name, entry in data.items()}


def candidates(places: Places, asset: Asset) -> list[Path]:
    """Return where an asset may lie: data/assets, anywhere one folder deep in $GAUSSTALK_ASSETS, the hub's cache.

    Beside weights of the hub, the same in the form of safetensors is taken first.
    """
    paths = [places.root / "data" / "assets" / asset.file]
    shared = os.environ.get("GAUSSTALK_ASSETS")
    if shared:
        base = Path(shared)
        paths += [base / asset.file, *(base / folder / asset.file for folder in ("weights", "model3d"))]
    if asset.hub:
        snapshots = _hub_cache() / f"models--{asset.hub.replace('/', '--')}" / "snapshots"
        paths += [folder / Path(asset.file).name for folder in sorted(snapshots.glob("*"))]
        paths = [either for path in paths for either in (path.with_name("model.safetensors"), path)]
    return paths


def _hub_cache() -> Path:
    """Return where the hub's own tools keep what they have downloaded."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def find_asset(places: Places, name: str) -> Path:
    """Return the path of an asset that is on this machine.

    Raises:
        UsageError: data/assets.toml does not know the name.
        MissingAssetError: it is not here; the message names licence, size and the command that gets it.
    """
    assets = read_assets(places)
    if name not in assets:
        raise UsageError(f"no asset {name!r}", f"data/assets.toml knows {', '.join(sorted(assets))}")
    asset = assets[name]
    for path in candidates(places, asset):
        if path.is_file():
            return path
    how = f"gausstalk fetch {name}" if asset.url or not asset.hub else f"hf download {asset.hub}"
    raise MissingAssetError(
        f"the asset {name} is not on this machine",
        f"{asset.what}; {asset.size}, licence: {asset.licence}",
        f"{how}   (or point GAUSSTALK_ASSETS to a folder that has {asset.file})",
    )


def has_asset(places: Places, name: str) -> bool:
    """Return whether an asset is on this machine."""
    return any(path.is_file() for path in candidates(places, read_assets(places)[name]))


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
