"""Which project the command line works on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from models.errors import UsageError
from tasks.places import Places

Json = Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else, to stdout.")]


def nearest_project() -> Places:
    """Return the project that is stood in; outside of any, the checkout whose code this is, which may have weights."""
    told = "GAUSSTALK_ROOT" in os.environ
    try:
        return project()
    except UsageError:
        if told:
            raise
        os.environ["GAUSSTALK_ROOT"] = str(Path(__file__).resolve().parents[1])
        return Places.here()


def project() -> Places:
    """Return the project: $GAUSSTALK_ROOT, or the nearest folder upwards that has dvc.yaml and params.yaml.

    Raises:
        UsageError: there is none.
    """
    if "GAUSSTALK_ROOT" not in os.environ:
        here = Path.cwd()
        found = next((path for path in (here, *here.parents) if (path / "params.yaml").is_file()), here)
        os.environ["GAUSSTALK_ROOT"] = str(found)
    for name in ("GAUSSTALK_ROOT", "GAUSSTALK_ASSETS"):
        if os.environ.get(name):  # a stage, which reads them, too, is started in another folder
            os.environ[name] = str(Path(os.environ[name]).resolve())
    places = Places.here()
    if not places.params.is_file() or not (places.root / "dvc.yaml").is_file():
        raise UsageError(
            f"{places.root} is no gausstalk project",
            "it has no params.yaml and dvc.yaml",
            "cd into a checkout, or set GAUSSTALK_ROOT to one",
        )
    return places
