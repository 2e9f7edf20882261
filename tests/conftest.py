"""What all tests share: one thread, no telemetry, no project of the machine's owner."""

import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

# Before anything numerical is imported: results that do not depend on the machine's load, and small matrices in a
# seventh of the time.
for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "2" if name == "NUMBA_NUM_THREADS" else "1")
# Threads that wait sleep instead of spinning: on a busy machine that is ten times faster.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ["GAUSSTALK_DEVICE"] = "cpu"  # also where there is another
for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS"):
    os.environ[name] = "true"
# A suite that runs as a background job begins with interrupts ignored, and what it starts would ignore them, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real clips and weights; tests that need it are skipped where there is none."""
    folder = os.environ.get("GAUSSTALK_ASSETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GAUSSTALK_ASSETS names no folder")
    return Path(folder)


@pytest.fixture(scope="module")
def quiet_training() -> Iterator[None]:
    """No MLflow; one thread, since such small work is slower on two."""
    import numba
    import torch

    from tasks import training

    before = numba.get_num_threads(), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "live_curves", lambda *_: nullcontext(SimpleNamespace(log=lambda *_, **__: None)))
        patch.setenv("GAUSSTALK_THREADS", "1")
        yield
    numba.set_num_threads(before[0])
    torch.set_num_threads(before[1])
