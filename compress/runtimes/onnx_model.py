"""Graphs that ONNX Runtime runs, behind the face of the model that they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from compress.checkpoint import load_config
from compress.checkpoint.exported import EXPORT_FILE, Export, ExportError
from compress.conformers import family_of, part, skeleton
from compress.runtimes.greedy import tokens_written
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.signatures import ENCODER_ALONE, ONE_GRAPH, SIGNATURES, TRANSDUCER
from compress.runtimes.transducers import ENCODER, GRAPHS, nemo_inputs, parts_in_order, transducer_logits


class RunsOnnx:
    """What turns a model without memory into one whose work is done by graphs, here a single one."""

    graphs: Mapping[str, OnnxGraph]
    signature: str
    precision: str

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
        model: Any = self
        return CausalLMOutput(logits=self.graphs[ONE_GRAPH].run(SIGNATURES[self.signature].tensors(model, inputs))[0])


class RunsTransducer(RunsOnnx):
    """The same for the graphs of a transducer."""

    def forward(self, **inputs: Tensor) -> CausalLMOutput:
        """Logits `(batch, frames, tokens, outputs)` of features, their mask, and `decoder_input_ids`, int32."""
        model: Any = self
        tokens = inputs["decoder_input_ids"]
        return CausalLMOutput(logits=transducer_logits(self.graphs, model, *nemo_inputs(model, inputs), tokens)[0])

    def generate(self, **inputs: Tensor) -> Tensor:
        """Tokens `(batch, steps)`, taken greedily."""
        model: Any = self
        return tokens_written(self.graphs, model, *nemo_inputs(model, inputs))


def exported_model(export: Export) -> PreTrainedModel:
    """The model of an export that writes text: without weights of its own, it computes what the graphs compute.

    Raises:
        ExportError: if it is of a kind that writes no text, or a graph cannot be loaded or is called otherwise.
        ValueError: naming what is wrong with the folder of its source.
    """
    name = export.facts["signature"]
    if name not in (*SIGNATURES, TRANSDUCER):
        known = ", ".join((*SIGNATURES, TRANSDUCER))
        raise ExportError(f"{export.folder / EXPORT_FILE}: signature is {name!r}; this program knows {known}.")
    model = skeleton(load_config(export.source), original=False)
    if name == ENCODER_ALONE:
        raise ExportError(
            f"{export.folder} holds the encoder of a {model.config.model_type} alone, which writes no text: evaluate "
            "the model itself."
        )
    paths = [export.folder / str(graph) for graph in export.facts["graphs"]]
    parts = parts_in_order(paths, export.folder / EXPORT_FILE) if name == TRANSDUCER else (ONE_GRAPH,)
    graphs = {part: OnnxGraph(path, inputs_of(model, name, part)) for part, path in zip(parts, paths, strict=False)}
    return run_by(model, graphs, name, export.facts["precision"])


def inputs_of(model: PreTrainedModel, signature: str, part: str) -> list[str]:
    """What the inputs of a model's graph are called.

    Args:
        model: says what its features are called.
        signature: as export.json gives it.
        part: which of its graphs.
    """
    return list(GRAPHS[part].inputs) if signature == TRANSDUCER else SIGNATURES[signature].input_names(model)


def run_by(model: PreTrainedModel, graphs: Mapping[str, OnnxGraph], signature: str, precision: str) -> PreTrainedModel:
    """A model whose work graphs do: a skeleton of the given one, which stays as it is.

    Args:
        model: one that writes text; its config says what it is.
        graphs: compute what it computes, by their parts.
        signature: how they are called, as export.json gives it.
        precision: of their weights, as export.json gives it.
    """
    bones: Any = skeleton(model.config, original=False)
    runs = RunsTransducer if signature == TRANSDUCER else RunsOnnx
    bones.__class__ = type(f"Onnx{type(bones).__name__}", (runs, type(bones)), {})
    bones.graphs, bones.signature, bones.precision = graphs, signature, precision
    if signature == TRANSDUCER:
        family = family_of(bones)
        part(bones, family.encoder).forward = partial(_encoded, bones, family.features)
    whole: PreTrainedModel = bones
    return whole


def _encoded(model: Any, name: str, features: Tensor, attention_mask: Tensor | None = None) -> BaseModelOutput:
    """What the encoder's graph makes of features, for whoever calls the encoder alone."""
    mask = {} if attention_mask is None else {"attention_mask": attention_mask}
    encoded = model.graphs[ENCODER].run(list(nemo_inputs(model, {name: features} | mask)))[0]
    return BaseModelOutput(last_hidden_state=encoded.transpose(1, 2))
