"""A graph run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compress.checkpoint.errors import reason_of
from compress.checkpoint.exported import EXPORT_FILE, ExportError
from compress.runtimes.optional import require_packages

_ERRORS_ONLY = 4


class OnnxGraph:
    """A graph on the CPU, with as many threads as torch has when it runs.

    Args:
        path: the file.
        names: what its inputs must be called.

    Raises:
        ExportError: if it cannot be loaded, or has other inputs.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        require_packages("Running a graph", "onnxruntime")
        self.path, self.names = path, list(names)
        self._threads = 0
        self._session: Any = None
        taken = [entry.name for entry in self._prepared().get_inputs()]
        if taken != self.names:
            raise ExportError(
                f"{path} takes {', '.join(taken)}, and by {EXPORT_FILE} it should take {', '.join(self.names)}: it is "
                "not the graph that was exported; export the model again."
            )

    def run(self, tensors: list[Tensor]) -> list[Tensor]:
        """Runs it on tensors in the order of its inputs; all outputs."""
        session = self._prepared()
        feed = {name: tensor.numpy() for name, tensor in zip(self.names, tensors, strict=True)}
        try:
            return [torch.from_numpy(output) for output in session.run(None, feed)]
        except Exception as error:  # ONNX Runtime has a class for each of its error codes, and no common one
            raise ExportError(f"{self.path} cannot be run: {reason_of(error)}.") from error

    def _prepared(self) -> Any:
        """The session, made anew where torch has got another number of threads."""
        import onnxruntime

        if self._threads == torch.get_num_threads():
            return self._session
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = _ERRORS_ONLY
        # Threads that wait by spinning would take time from whoever is measured in turn with this graph.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ExportError(f"{self.path} cannot be loaded by ONNX Runtime: {reason_of(error)}.") from error
        self._threads = torch.get_num_threads()
        return self._session


def runtime_version() -> str:
    """The version of ONNX Runtime."""
    import onnxruntime

    return str(onnxruntime.__version__)
