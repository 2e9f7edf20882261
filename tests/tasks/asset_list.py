"""A project's list of assets, and what has come of them."""

from tasks.places import Places


def add(places: Places, name: str, entry: str) -> None:
    path = places.root / "data" / "assets.toml"
    path.write_text(f'{path.read_text()}[{name}]\nlicence = "MIT"\nwhat = "the {name}"\n{entry}\n')


def left(places: Places) -> list[str]:
    return sorted(path.name for path in (places.root / "data" / "assets").glob("*"))
