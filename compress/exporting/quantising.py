"""Weights of 8 bits: dynamic quantisation of linear layers, and which of them had better stay as they are."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from compress.checkpoint.exported import weights_file
from compress.evaluation.errors import ErrorRates
from compress.exporting.clients import CLIENTS, Slot
from compress.exporting.large import quantise_large
from compress.exporting.settings import ExportConfig
from compress.exporting.source import SourceModel
from compress.exporting.speech import DevSpeech
from compress.runtimes.onnx_model import OnnxGraph, run_by
from compress.runtimes.signatures import SIGNATURES, Signature

logger = logging.getLogger(__name__)
QUANTISED_KINDS = ("MatMul", "Gemm")
"""Kinds of nodes whose constant weights are quantised."""
POINTS = 100


def quantise(
    source: SourceModel,
    slot: Slot,
    config: ExportConfig,
    graph: Path,
    target: Path,
    speech: DevSpeech | None,
    before: ErrorRates | None,
) -> dict[str, Any]:
    """Writes a graph with quantised weights as its client wants them.

    Args:
        source: the model.
        slot: how the graph is called.
        config: what is asked for.
        graph: in float32.
        target: where to.
        speech: with `keep_fp32: auto`, that by which is decided what stays in float32.
        before: how well the model writes it down.

    Returns:
        What export.json says: the type of the weights, and the layers that are kept in float32.
    """
    unsigned = CLIENTS[config.client].unsigned
    nodes = quantisable(graph)
    in_float32: list[str] = []
    if config.keep_fp32 == "auto":
        assert speech
        assert before
        search = _Search(source, SIGNATURES[slot.signature], graph, unsigned, speech, nodes)
        in_float32 = search.layers(before.wer + config.max_wer_increase / POINTS, config.calibration_utterances)
    write_quantised(graph, target, in_float32, unsigned=unsigned)
    return {
        "weights": "uint8" if unsigned else "int8",
        "quantised_layers": len(nodes) - len(in_float32),
        "kept_float32": in_float32,
    }


def quantise_parts(client: str, graphs: Sequence[Path], targets: Sequence[Path]) -> dict[str, Any]:
    """Writes the graphs of a transducer with quantised weights; only those of its encoder can be unsigned.

    Args:
        client: who is to run them.
        graphs: in float32, the encoder first.
        targets: where to.

    Returns:
        What export.json says, as `quantise`.
    """
    unsigned = [CLIENTS[client].unsigned, *(False for _ in graphs[1:])]
    for graph, target, without_sign in zip(graphs, targets, unsigned, strict=True):
        write_quantised(graph, target, (), unsigned=without_sign)
    return {
        "weights": "uint8" if unsigned[0] else "int8",
        "quantised_layers": sum(len(quantisable(graph)) for graph in graphs),
        "kept_float32": [],
    }


def quantisable(graph: Path) -> list[str]:
    """The names of the nodes whose weights can be quantised, in the order of the graph."""
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    constant = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in QUANTISED_KINDS and node.input[1] in constant]


def write_quantised(graph: Path, target: Path, in_float32: Collection[str], *, unsigned: bool) -> None:
    """Quantises all linear layers of a graph but some, each output's weights by their own scale.

    Weights that lie beside the graph, since it is large, are read one by one.

    Args:
        graph: in float32.
        target: where to.
        in_float32: names of nodes that stay so.
        unsigned: store weights from 0 on.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target.parent.mkdir(parents=True, exist_ok=True)
    if weights_file(graph).is_file():
        chosen = [name for name in quantisable(graph) if name not in in_float32]
        quantise_large(graph, target, chosen, unsigned=unsigned)
        return
    with _quiet():
        quantize_dynamic(
            str(graph),
            str(target),
            op_types_to_quantize=list(QUANTISED_KINDS),
            per_channel=True,
            weight_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            nodes_to_exclude=list(in_float32),
        )


def fewest(order: list[str], fits: Callable[[list[str]], bool]) -> list[str]:
    """The shortest beginning of a list that fits, found by halving; all of it is taken to fit, and none of it not."""
    enough, too_few = len(order), 0
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        enough, too_few = (middle, too_few) if fits(order[:middle]) else (enough, middle)
    return order[:enough]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the advice of the quantiser to simplify the graph first, which is done already."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


@dataclass(frozen=True)
class _Search:
    """The search for the layers that had better stay in float32."""

    source: SourceModel
    signature: Signature
    graph: Path
    unsigned: bool
    speech: DevSpeech
    nodes: list[str]

    def layers(self, limit: float, utterances: int) -> list[str]:
        """The fewest of the costliest layers with which the word error rate stays within a limit.

        Args:
            limit: a fraction of the words.
            utterances: on how many each layer is tried alone.
        """
        if self._wer(()) <= limit:
            return []
        return fewest(self._costliest_first(utterances), lambda layers: self._wer(layers) <= limit)

    def _wer(self, in_float32: Collection[str]) -> float:
        """Of the graph with all other layers quantised."""
        with tempfile.TemporaryDirectory() as place:
            rate = self.speech.rates(
                run_by(self.source.model, self._quantised(Path(place), in_float32), self.signature)
            ).wer
        logger.info("%d of %d layers in float32: WER %.2f %%", len(in_float32), len(self.nodes), POINTS * rate)
        return rate

    def _costliest_first(self, utterances: int) -> list[str]:
        """The layers, by how far the outputs move when each is the only one that is quantised."""
        batches = self._batches(utterances)
        whole = OnnxGraph(self.graph, self.signature.input_names(self.source.model))
        expected = [whole.run(batch)[0] for batch in batches]
        costs = {}
        for node in self.nodes:
            with tempfile.TemporaryDirectory() as place:
                graph = self._quantised(Path(place), [other for other in self.nodes if other != node])
                costs[node] = sum(
                    float((graph.run(batch)[0] - outputs).abs().mean())
                    for batch, outputs in zip(batches, expected, strict=True)
                )
        return sorted(costs, key=costs.__getitem__, reverse=True)

    def _batches(self, utterances: int) -> list[list[Tensor]]:
        """Single utterances, none of which is padded, spread over the speech."""
        loader = self.speech.loader(self.source.model)
        model, batches = self.source.model, []
        for batch in islice(loader.epoch(0), utterances):
            row = {name: value[:1] for name, value in batch.inputs.items()}
            batches.append(self.signature.tensors(model, row))
        loader.close()
        return batches

    def _quantised(self, folder: Path, in_float32: Collection[str]) -> OnnxGraph:
        write_quantised(self.graph, folder / "int8.onnx", in_float32, unsigned=self.unsigned)
        return OnnxGraph(folder / "int8.onnx", self.signature.input_names(self.source.model))
