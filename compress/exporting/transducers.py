"""Transducers as the graphs that clients want, written and compared with the model together."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from transformers import PreTrainedModel

from compress.checkpoint.exported import ExportError
from compress.conformers import family_of, frame_lengths
from compress.exporting.checking import TRACED_SECONDS, Sample, first_different_block, noise_inputs, samples_of
from compress.exporting.clients import Slot
from compress.exporting.graph import write_graph, write_tidied
from compress.exporting.source import SourceModel
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.transducers import ENCODER, GRAPHS, example_of, nemo_inputs, some_tokens, transducer_logits


def write_transducer(source: SourceModel, slot: Slot, graphs: Mapping[str, Path], tolerance: float) -> float:
    """Writes the graphs of a transducer, and compares what they make together with what the model makes.

    Args:
        source: the model.
        slot: which graphs its client wants, and their metadata.
        graphs: where each goes, by what it computes.
        tolerance: the largest difference that is accepted.

    Returns:
        The largest difference between logits, over all frames and tokens.

    Raises:
        ExportError: if it is above the tolerance, naming the block where it begins, or there is no graph of it.
    """
    samples = samples_of(source.model, source.processor, singly=False)
    try:
        for part, path in graphs.items():
            _write_part(source, slot, part, path)
        difference = _largest_difference(graphs, source.model, samples)
    except ExportError as error:
        raise ExportError(f"{source.name}, a {family_of(source.model).name}, cannot be exported: {error}") from error
    if not difference <= tolerance:
        block = first_different_block(source.model, source.processor, tolerance)
        raise ExportError(
            f"The graphs' logits differ from those of {source.name} by {difference:.2g}, more than the tolerance "
            f"{tolerance:g}: {block}. Nothing was written."
        )
    return difference


def _write_part(source: SourceModel, slot: Slot, part: str, path: Path) -> None:
    """Writes one graph; clients read metadata from the encoder's."""
    model, graph = source.model, GRAPHS[part]
    inputs = noise_inputs(source.processor, TRACED_SECONDS)
    tensors = example_of(model, part, *nemo_inputs(model, inputs))
    names = {"inputs": list(graph.inputs), "outputs": list(graph.outputs)}
    with tempfile.TemporaryDirectory() as place:
        rough = Path(place, "rough.onnx")
        write_graph(graph.traced(model), tensors, rough, axes=graph.axes(), **names)
        write_tidied(rough, slot.metadata(model, source.processor) if part == ENCODER else {}, path)


def _largest_difference(graphs: Mapping[str, Path], model: PreTrainedModel, samples: list[Sample]) -> float:
    running = {part: OnnxGraph(path, list(GRAPHS[part].inputs)) for part, path in graphs.items()}
    differences = [0.0]
    for sample in samples:
        mask = sample.inputs["attention_mask"]
        tokens = some_tokens(model, len(mask))
        got, frames = transducer_logits(running, model, *nemo_inputs(model, sample.inputs), tokens)
        with torch.no_grad():
            expected = model(**sample.inputs, decoder_input_ids=tokens).logits
        if got.shape != expected.shape or frames.tolist() != frame_lengths(model, mask).tolist():
            raise ExportError(
                f"The graphs give {tuple(got.shape)} for {sample.seconds} s, and the model {tuple(expected.shape)}."
            )
        difference = (got - expected)[sample.valid].abs()
        differences.append(float(difference.nan_to_num(nan=torch.inf).max()))
    return max(differences)
