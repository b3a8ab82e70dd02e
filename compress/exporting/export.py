"""`compress export`: a checkpoint becomes a folder that others' programs run, or nothing."""

from __future__ import annotations

import copy
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from compress.checkpoint import COMPRESSION_FILE, read_compression
from compress.checkpoint.exported import EXPORT_FILE, EXPORT_FORMAT, FLOAT32, INT8, SOURCE_FOLDER, Export, ExportError
from compress.checkpoint.weights import WEIGHTS_DIGEST, weights_digest
from compress.conformers import family_of
from compress.data import feature_extractor_of
from compress.exporting.checking import (
    CHECKED_SECONDS,
    TRACED_SECONDS,
    first_different_block,
    largest_difference,
    longest_frames,
    noise_inputs,
    samples_of,
)
from compress.exporting.clients import CLIENTS, ONNX_ASR_TYPES, Slot, slot_for
from compress.exporting.graph import OPSET, write_graph, write_tidied
from compress.exporting.quantising import quantise
from compress.exporting.settings import ExportConfig
from compress.exporting.source import SourceModel
from compress.exporting.speech import DevSpeech
from compress.exporting.transducers import write_transducer
from compress.files.paths import last_part
from compress.files.shipped import __version__
from compress.files.writing import CONFIG_FILE, replaced_folder, require_writable, write_json
from compress.model.card import CARD_FILE
from compress.running.aspects import ASPECTS, in_full
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.onnx_model import exported_model
from compress.runtimes.optional import require_packages
from compress.runtimes.signatures import ONE_GRAPH, SIGNATURES
from compress.runtimes.transducers import no_memory

logger = logging.getLogger(__name__)


def export(config: ExportConfig) -> Export:
    """Exports a model.

    Args:
        config: which, where to, and for whom.

    Returns:
        The folder, complete.

    Raises:
        ExportError: if the folder exists, the client cannot take the model, or the graph computes something else.
        MissingPackageError: if a package that is needed is not installed.
        ValueError: if the model or the data are not usable.
    """
    require_packages("compress export", "onnx", "onnxruntime")
    if Path(config.out).exists():
        raise ExportError(f"{config.out} exists already; choose another folder or delete it.")
    require_writable(config.out)
    source = SourceModel.load(config)
    slot = slot_for(config.client, source.model, source.processor)
    with replaced_folder(config.out) as folder, in_full(source.model):
        facts = _write(source, slot, config, folder)
        write_json(folder / EXPORT_FILE, facts)
    logger.info("%s: %s", config.out, ", ".join(facts["graphs"]))
    for note in facts["notes"]:
        logger.info("%s", note)
    return Export(Path(config.out), facts)


def _write(source: SourceModel, slot: Slot, config: ExportConfig, folder: Path) -> dict[str, Any]:
    """Fills the folder; what export.json says."""
    _write_source(source, folder / SOURCE_FOLDER)
    graphs = CLIENTS[config.client].graphs(slot, int8=config.int8)
    names = list(graphs.values())
    speech = DevSpeech.open(config, source, slot) if config.data else None
    before = speech.rates(source.model) if speech else None
    facts, targets = _facts(source, slot, config) | {"graphs": names}, {k: folder / name for k, name in graphs.items()}
    with tempfile.TemporaryDirectory() as place:
        paths = {part: Path(place, f"{part}.onnx") for part in graphs} if config.int8 else targets
        if slot.parts:
            facts["largest_difference"] = write_transducer(source, slot, paths, config.tolerance)
        else:
            facts["largest_difference"] = write_checked(source, slot, paths[ONE_GRAPH], config.tolerance)
        if config.int8:
            facts["int8"] = quantise(source, slot, config, paths, targets, speech, before)
    if speech and before:
        export = Export(folder, facts)
        facts["error_rates"] = speech.entry(before, speech.rates(exported_model(export)))
    slot.files(source.model, source.processor, folder)
    (folder / CARD_FILE).write_text(_readme(source, slot, config, names), encoding="utf-8")
    return facts


def write_checked(source: SourceModel, slot: Slot, path: Path, tolerance: float) -> float:
    """Writes the graph of a model, and compares both.

    Args:
        source: the model.
        slot: how the graph is called, and its metadata.
        path: where to.
        tolerance: the largest difference that is accepted.

    Returns:
        The largest difference between the outputs of graph and model.

    Raises:
        ExportError: if it is above the tolerance, naming the block where it begins, or there is no graph of it.
    """
    signature, model = SIGNATURES[slot.signature], source.model
    samples = samples_of(model, source.processor, singly=signature.singly)
    try:
        write_followed(source, slot, path)
        difference = largest_difference(OnnxGraph(path, signature.input_names(model)), model, signature, samples)
    except ExportError as error:
        raise ExportError(f"{source.name}, a {family_of(model).name}, cannot be exported: {error}") from error
    if not difference <= tolerance:
        block = first_different_block(model, source.processor, tolerance)
        raise ExportError(
            f"The graph's outputs differ from those of {source.name} by {difference:.2g}, more than the tolerance "
            f"{tolerance:g}: {block}. Nothing was written."
        )
    return difference


def write_followed(source: SourceModel, slot: Slot, path: Path) -> None:
    """Writes the graph of a model by following one forward pass.

    Args:
        source: the model.
        slot: how the graph is called, and its metadata.
        path: where to.

    Raises:
        ExportError: if it cannot be followed.
    """
    signature, model = SIGNATURES[slot.signature], source.model
    names = signature.input_names(model)
    inputs = noise_inputs(source.processor, TRACED_SECONDS[: 1 if signature.singly else None])
    with tempfile.TemporaryDirectory() as place:
        rough = Path(place, "rough.onnx")
        write_graph(
            signature.traced(model),
            signature.tensors(model, inputs),
            rough,
            inputs=names,
            outputs=list(signature.outputs),
            axes=signature.axes(model),
        )
        write_tidied(rough, slot.metadata(model, source.processor), path)


def _write_source(source: SourceModel, folder: Path) -> None:
    """Writes what a reader of the export has to know of the model: all of a checkpoint but its weights."""
    folder.mkdir()
    _plain_config(source.model.config).to_json_file(str(folder / CONFIG_FILE), use_diff=False)
    source.processor.save_pretrained(folder)
    if compression := read_compression(source.name):
        write_json(folder / COMPRESSION_FILE, compression)


def _plain_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config of a model that runs in full only, as a graph does."""
    plain = copy.deepcopy(config)
    for name in (name for aspect in ASPECTS for name in aspect.fields if hasattr(plain, name)):
        setattr(plain, name, None)
    return plain


def _facts(source: SourceModel, slot: Slot, config: ExportConfig) -> dict[str, Any]:
    import onnx
    import onnxruntime

    frames = longest_frames(source.model)
    limit = [] if frames is None else [f"Inputs of more than {frames} frames are beyond its table of positions."]
    return {
        "format": EXPORT_FORMAT,
        "model": {
            "name": source.name,
            "family": family_of(source.model).name,
            "size": source.size,
            WEIGHTS_DIGEST: weights_digest(source.name),
        },
        "client": config.client,
        "signature": slot.signature,
        "runtime": "onnxruntime",
        "precision": INT8 if config.int8 else FLOAT32,
        "opset": OPSET,
        "tolerance": config.tolerance,
        "checked_seconds": [list(seconds) for seconds in CHECKED_SECONDS],
        "notes": [*source.notes, *limit],
        "versions": {
            "compress": __version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }


def _readme(source: SourceModel, slot: Slot, config: ExportConfig, graphs: list[str]) -> str:
    extractor = feature_extractor_of(source.processor)
    text = slot.readme.format(
        graph=graphs[0],
        graphs=graphs,
        type=ONNX_ASR_TYPES.get(family_of(source.model).name),
        bins=getattr(extractor, "feature_size", ""),
        half_hop=getattr(extractor, "hop_length", 0) // 2,
        rate=extractor.sampling_rate,
        quantization='"int8"' if config.int8 else None,
        dtype="q8" if config.int8 else "fp32",
        blank=getattr(source.model.config, "blank_token_id", None),
        memory=tuple(no_memory(source.model, 1).shape) if slot.parts else None,
    )
    notes = "".join(f"\n{note}\n" for note in source.notes)
    return f"# {last_part(source.name)} for {config.client}\n\n{text}{notes}"
