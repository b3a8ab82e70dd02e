"""Graphs run by ONNX Runtime, behind the face of the model that they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from compress.checkpoint import load_config
from compress.checkpoint.errors import reason_of
from compress.checkpoint.exported import EXPORT_FILE, Export, ExportError
from compress.conformers import skeleton
from compress.runtimes.optional import require_packages
from compress.runtimes.signatures import SIGNATURES, TRANSDUCER, Signature

_ERRORS_ONLY = 4


class OnnxGraph:
    """A graph on the CPU, with as many threads as torch has when it runs.

    Args:
        path: the file.
        names: what its inputs must be called.

    Raises:
        ExportError: if it cannot be loaded, or has other inputs.
    """

    def __init__(self, path: Path, names: list[str]) -> None:
        require_packages("Running a graph", "onnxruntime")
        self.path, self.names = path, names
        self._threads = 0
        self._session: Any = None
        taken = [entry.name for entry in self._prepared().get_inputs()]
        if taken != names:
            raise ExportError(
                f"{path} takes {', '.join(taken)}, and by {EXPORT_FILE} it should take {', '.join(names)}: it is not "
                "the graph that was exported; export the model again."
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


class RunsOnnx:
    """What turns a model without memory into one whose forward pass is a graph."""

    graph: OnnxGraph
    signature: Signature

    @property
    def device(self) -> torch.device:
        """Graphs run on the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What graphs take, whatever they hold."""
        return torch.float32

    def forward(self, **inputs: Tensor) -> CausalLMOutput:
        """What the graph makes of features and their mask: logits, or logarithms of probabilities."""
        outputs = self.graph.run(self.signature.tensors(self, inputs))  # type: ignore[arg-type]
        return CausalLMOutput(logits=outputs[0])


def exported_model(export: Export) -> PreTrainedModel:
    """The model of an export with a CTC head: without weights of its own, it computes what the graph computes.

    Raises:
        ExportError: if it is of a kind that writes no text, or the graph cannot be loaded or is called otherwise.
        ValueError: naming what is wrong with the folder of its source.
    """
    name = export.facts["signature"]
    if name == TRANSDUCER:
        raise ExportError(
            f"{export.folder} holds the graphs of a transducer for {export.facts['client']}, which this program does "
            "not run: evaluate the model itself."
        )
    if name not in SIGNATURES:
        known = ", ".join(SIGNATURES)
        raise ExportError(f"{export.folder / EXPORT_FILE}: signature is {name!r}; this program knows {known}.")
    model = skeleton(load_config(export.source), original=False)
    if SIGNATURES[name] is SIGNATURES["encoder"]:
        raise ExportError(
            f"{export.folder} holds the encoder of a {model.config.model_type} alone, which writes no text: evaluate "
            "the model itself."
        )
    return run_by(model, OnnxGraph(export.graph, SIGNATURES[name].input_names(model)), SIGNATURES[name])


def run_by(model: PreTrainedModel, graph: OnnxGraph, signature: Signature) -> PreTrainedModel:
    """A model whose forward pass is a graph: a skeleton of the given one, which stays as it is.

    Args:
        model: with a CTC head; its config says what it is.
        graph: computes its outputs.
        signature: how it is called.
    """
    bones = skeleton(model.config, original=False)
    bones.__class__ = type(f"Onnx{type(bones).__name__}", (RunsOnnx, type(bones)), {})
    bones.graph, bones.signature = graph, signature  # type: ignore[assignment]
    return bones
