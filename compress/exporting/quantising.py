"""Weights of 8 bits: dynamic quantisation of linear layers, and which of them had better stay as they are."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor
from transformers import PreTrainedModel

from compress.checkpoint.exported import FLOAT32, INT8, weights_file
from compress.evaluation.errors import ErrorRates
from compress.exporting.clients import CLIENTS, Slot
from compress.exporting.large import quantise_large
from compress.exporting.settings import ExportConfig
from compress.exporting.source import SourceModel
from compress.exporting.speech import DevSpeech
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.onnx_model import inputs_of, run_by
from compress.runtimes.signatures import ONE_GRAPH, TRANSDUCER
from compress.runtimes.transducers import ENCODER, some_tokens

logger = logging.getLogger(__name__)
QUANTISED_KINDS = ("MatMul", "Gemm")
"""Kinds of nodes whose constant weights are quantised."""
POINTS = 100
_Item = TypeVar("_Item")


Layer = tuple[str, str]
"""What its graph computes, and the name of its node."""


def quantise(
    source: SourceModel,
    slot: Slot,
    config: ExportConfig,
    graphs: Mapping[str, Path],
    targets: Mapping[str, Path],
    speech: DevSpeech | None,
    before: ErrorRates | None,
) -> dict[str, Any]:
    """Writes graphs with quantised weights as their client wants them.

    Args:
        source: the model.
        slot: how the graphs are called.
        config: what is asked for.
        graphs: in float32, by what they compute.
        targets: where each goes.
        speech: with `keep_fp32: auto`, that by which is decided what stays in float32.
        before: how well the model writes it down.

    Returns:
        What export.json says: the type of the weights, and the layers that are kept in float32.
    """
    unsigned = unsigned_parts(config.client, graphs)
    layers = [(part, node) for part, graph in graphs.items() for node in quantisable(graph)]
    in_float32: list[Layer] = []
    if config.keep_fp32 == "auto":
        assert speech
        assert before
        search = _Search(source, slot.signature, graphs, unsigned, speech, layers)
        in_float32 = search.layers(before.wer + config.max_wer_increase / POINTS, config.calibration_utterances)
    write_all_quantised(graphs, targets, in_float32, unsigned)
    return {
        "weights": "uint8" if unsigned else "int8",
        "quantised_layers": len(layers) - len(in_float32),
        "kept_float32": [node if part == ONE_GRAPH else f"{part}: {node}" for part, node in in_float32],
    }


def unsigned_parts(client: str, parts: Collection[str]) -> set[str]:
    """Which graphs get weights without a sign: of a client that wants them so, all but those behind an encoder."""
    return {ONE_GRAPH, ENCODER}.intersection(parts) if CLIENTS[client].unsigned else set()


def write_all_quantised(
    graphs: Mapping[str, Path], targets: Mapping[str, Path], in_float32: Collection[Layer], unsigned: Collection[str]
) -> None:
    """Quantises all linear layers of several graphs but some; see `write_quantised`.

    Args:
        graphs: in float32, by what they compute.
        targets: where each goes.
        in_float32: what stays so.
        unsigned: the graphs whose weights are stored from 0 on.
    """
    for part, graph in graphs.items():
        kept = [node for other, node in in_float32 if other == part]
        write_quantised(graph, targets[part], kept, unsigned=part in unsigned)


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


def fewest(order: list[_Item], fits: Callable[[list[_Item]], bool]) -> list[_Item]:
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
    signature: str
    graphs: Mapping[str, Path]
    unsigned: Collection[str]
    speech: DevSpeech
    all_layers: list[Layer]

    def layers(self, limit: float, utterances: int) -> list[Layer]:
        """The fewest of the costliest layers with which the word error rate stays within a limit.

        Args:
            limit: a fraction of the words.
            utterances: on how many each layer is tried alone.
        """
        if self._wer(()) <= limit:
            return []
        return fewest(self._costliest_first(utterances), lambda layers: self._wer(layers) <= limit)

    def _wer(self, in_float32: Collection[Layer]) -> float:
        """Of the graphs with all other layers quantised."""
        with self._quantised(in_float32) as model:
            rate = self.speech.rates(model).wer
        logger.info("%d of %d layers in float32: WER %.2f %%", len(in_float32), len(self.all_layers), POINTS * rate)
        return rate

    def _costliest_first(self, utterances: int) -> list[Layer]:
        """The layers, by how far the outputs move when each is the only one that is quantised."""
        batches = self._batches(utterances)
        whole = self._running(self.graphs, FLOAT32)
        expected = [whole(**batch).logits for batch in batches]
        costs = {}
        for layer in self.all_layers:
            with self._quantised([other for other in self.all_layers if other != layer]) as model:
                costs[layer] = sum(
                    float((model(**batch).logits - outputs).abs().mean())
                    for batch, outputs in zip(batches, expected, strict=True)
                )
        return sorted(costs, key=costs.__getitem__, reverse=True)

    def _batches(self, utterances: int) -> list[dict[str, Tensor]]:
        """Single utterances, none of which is padded, spread over the speech."""
        loader = self.speech.loader(self.source.model)
        tokens = {"decoder_input_ids": some_tokens(self.source.model, 1)} if self.signature == TRANSDUCER else {}
        batches = [
            {name: value[:1] for name, value in batch.inputs.items()} | tokens
            for batch in islice(loader.epoch(0), utterances)
        ]
        loader.close()
        return batches

    @contextmanager
    def _quantised(self, in_float32: Collection[Layer]) -> Iterator[PreTrainedModel]:
        """The model as graphs run it in which all other layers are quantised; a graph without any is taken as it is."""
        changed = {part for part, _ in set(self.all_layers).difference(in_float32)}
        with tempfile.TemporaryDirectory() as place:
            graphs = {part: self.graphs[part] for part in self.graphs if part in changed}
            paths = {part: Path(place, f"{number}.onnx") for number, part in enumerate(graphs)}
            write_all_quantised(graphs, paths, in_float32, self.unsigned)
            yield self._running({**self.graphs, **paths}, INT8)

    def _running(self, paths: Mapping[str, Path], precision: str) -> PreTrainedModel:
        model = self.source.model
        names = {part: inputs_of(model, self.signature, part) for part in paths}
        graphs = {part: OnnxGraph(path, names[part]) for part, path in paths.items()}
        return run_by(model, graphs, self.signature, precision)
