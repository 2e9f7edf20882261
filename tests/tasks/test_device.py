"""What computes: chosen by hand, by the environment, or CUDA wherever heads can be drawn on it."""

import os

import pytest
import torch

from models.errors import MachineError, UsageError
from models.gaussians.rasterize import gsplat
from tasks import doctor
from tasks.device import asked_device, choose_device, stage_device
from tasks.places import Places

UNSEEN = MachineError("no CUDA device here", "torch sees none", gsplat.GET_TORCH)
ABSENT = MachineError("gsplat is not installed", "it draws heads on CUDA", "pip install -e .[cuda]")


@pytest.fixture
def card(monkeypatch):
    """A CUDA device with a working gsplat."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gsplat, "package", lambda: None)


def broken():
    raise MachineError("gsplat is installed without its CUDA kernels", "no toolkit", "install the toolkit")


@pytest.mark.usefixtures("card")
def test_a_device_that_draws_is_used_unless_another_is_asked_for(monkeypatch):
    assert [choose_device(wanted) for wanted in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    assert stage_device() == "cpu"  # tests/conftest.py says so
    monkeypatch.delenv("GAUSSTALK_DEVICE")
    assert stage_device() == "cuda"
    monkeypatch.setenv("GAUSSTALK_DEVICE", "cuda:1")
    assert stage_device() == "cuda:1"
    assert [asked_device(wanted) for wanted in (None, "auto", "cpu")] == ["cuda:1", "cuda", "cpu"]


@pytest.mark.usefixtures("card")
def test_a_device_that_cannot_draw_is_told_of_and_left(monkeypatch, caplog):
    monkeypatch.setattr(gsplat, "package", broken)
    assert choose_device("auto") == "cpu"
    assert "without its CUDA kernels" in caplog.text
    assert "install the toolkit" in caplog.text
    with pytest.raises(MachineError) as error:
        choose_device("cuda")
    assert "without its CUDA kernels" in error.value.what
    assert "install the toolkit" in error.value.fix
    assert "GAUSSTALK_DEVICE=cpu" in error.value.fix


def test_without_a_device_the_cpu_is_used_in_silence(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    assert not caplog.text
    with pytest.raises(MachineError) as error:
        choose_device("cuda")
    assert "no CUDA device" in error.value.what
    assert error.value.fix.endswith("if it has such a device; or --device cpu, GAUSSTALK_DEVICE=cpu")
    with pytest.raises(UsageError, match="gpu"):
        choose_device("gpu")


@pytest.mark.parametrize(
    ("look", "state", "found", "fix"),
    [
        ((False, UNSEEN), "warn", "torch sees no CUDA device", "install the build of torch"),
        ((True, ABSENT), "warn", "gsplat is not installed", "pip install -e .[cuda]"),
        ((True, None), "ok", "run and say compute on it", ""),
    ],
)
def test_the_doctor_says_what_keeps_a_card_from_being_used(look, state, found, fix, tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'A card, 8 GiB'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(doctor, "look_for_cuda", lambda: look)
    (finding,) = doctor._graphics(Places(tmp_path))
    assert (finding.name, finding.state) == ("gpu", state)
    assert "A card, 8 GiB" in finding.found
    assert found in finding.found
    assert finding.fix == fix or (fix and fix in finding.fix)
