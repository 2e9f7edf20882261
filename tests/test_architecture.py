"""Who may import whom: beyond what import-linter's contracts in pyproject.toml say."""

import ast
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [path for package in ("flows", "tasks", "models") for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """The first names of everything that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def importers(*names: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in FILES if imports(path) & set(names)}


def test_flows_compute_nothing() -> None:
    assert not [name for name in importers("numpy", "torch", "numba", "cv2", "scipy") if name.startswith("flows/")]


def test_models_know_nothing_of_orchestration() -> None:
    found = importers("dvc", "prefect", "mlflow", "typer", "rich", "flows", "tasks")
    assert not [name for name in found if name.startswith("models/")]


def test_one_module_touches_dvc_and_prefect_stays_in_flows() -> None:
    assert importers("dvc") == {"flows/graph.py"}
    assert all(name.startswith("flows/") for name in importers("prefect"))


def test_mlflow_is_reached_by_its_mirror_only() -> None:
    assert importers("mlflow") == {"tasks/tracking.py", "tasks/publish.py"}


def test_pictures_and_sound_are_decoded_in_one_place() -> None:
    assert all(name.startswith("tasks/media") for name in importers("av"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_pickle_no_shell_no_relative_import(path: Path) -> None:
    # One module reads pickles, with a reader that refuses every call; nothing else touches them.
    allowed = {"pickle"} if path.relative_to(ROOT).as_posix() == "models/pickles.py" else set()
    assert not imports(path) & {"pickle", "dill", "cloudpickle", "joblib"} - allowed
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert all(alias.name != "*" for alias in node.names)
        if isinstance(node, ast.Call):
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            shell = keywords.get("shell")
            assert shell is None or (isinstance(shell, ast.Constant) and shell.value is False)
            called = ast.unparse(node.func)
            assert called not in {"os.system", "os.popen", "eval", "exec"}
            if called == "torch.load":
                weights_only = keywords.get("weights_only")
                assert isinstance(weights_only, ast.Constant)
                assert weights_only.value is True


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_longer_than_a_person_reads(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


def test_matrices_are_multiplied_in_as_many_threads_as_asked_for() -> None:
    """What imports NumPy before tests/conftest.py, like a plugin of pytest, makes fits take seven times as long."""
    import numpy  # noqa: F401  # it brings the library that is asked

    pools = pytest.importorskip("threadpoolctl").threadpool_info()
    threads = [pool["num_threads"] for pool in pools if pool["internal_api"] == "openblas"]
    assert threads
    assert set(threads) == {int(os.environ["OPENBLAS_NUM_THREADS"])}
