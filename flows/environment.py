"""What the tools that this project starts are told through the environment: stay local, stay quiet, stay in .work/."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tasks.places import Places


def prepare(places: Places) -> None:
    """Set what Prefect, MLflow and DVC read when they are imported; what the user has set himself stays.

    Must run before the first of them is imported.
    """
    settings = {
        "DO_NOT_TRACK": "true",  # the one spelling that both Prefect and MLflow take
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_HOME": str(places.root / ".work" / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_UI_V2_ENABLED": "false",  # they call amplitude.com whatever the settings say
        # Several flow runs write at once; sqlite's default patience is too short on a loaded machine.
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)
    _spare_proxies()
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)


def _spare_proxies() -> None:
    """Let no proxy be asked for the servers on this machine, which it cannot reach; what it is spared already stays."""
    spellings = ("no_proxy", "NO_PROXY")  # where both are set, a program reads only one of them
    spared = [host.strip() for name in spellings for host in os.environ.get(name, "").split(",") if host.strip()]
    if "*" not in spared:  # which means all only as long as it stands alone
        os.environ.update(dict.fromkeys(spellings, ",".join(dict.fromkeys([*spared, "127.0.0.1", "localhost"]))))


def for_children(threads: int) -> dict[str, str]:
    """Return the environment of a stage's process: this Python first in PATH, and its share of the cores."""
    here = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": here + os.pathsep + os.environ.get("PATH", os.defpath),
        "GAUSSTALK_THREADS": str(threads),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    }
