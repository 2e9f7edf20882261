"""Opens networks in ONNX form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_session(path: Path, cuda: bool = False, threads: int = 1) -> InferenceSession:
    """Open a network, on CUDA where it is wanted and there.

    Raises:
        InputError: the file is not one.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as faults

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    wanted = ["CUDAExecutionProvider"] if cuda else []
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except (faults.Fail, faults.InvalidProtobuf, faults.InvalidGraph, faults.InvalidArgument) as error:
        raise InputError(f"{path}: not a network in ONNX form", str(error), "get it again") from error
