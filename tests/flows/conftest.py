"""Fixtures of the flow tests: the toy project and one Prefect server."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_project import DVC_YAML, Toy


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    root = tmp_path / "toy"
    root.mkdir()
    shutil.copy(Path(__file__).with_name("toy.py"), root / "toy.py")
    (root / "dvc.yaml").write_text(DVC_YAML.format(python=sys.executable))
    (root / "params.yaml").write_text("speakers: [ann, bob]\nextractors: [logmel]\n")
    (root / "raw").mkdir()
    for name in ("ann", "bob"):
        (root / "raw" / f"{name}.txt").write_text(f"{name} speaks\n")
        record = root / "data" / "speakers" / f"{name}.yaml"
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(f"name: {name}\nbasis: synthetic\nsources: [{name}.txt]\n")
    toy = Toy(root)
    assert toy.dvc("init", "-q", "--no-scm").returncode == 0
    return toy


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One Prefect server with a throw-away database for the whole session; starting one takes ten seconds."""
    from flows.environment import prepare
    from tasks.places import Places

    prepare(Places(Path.cwd()))
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
