"""Checkpoints for every route of a family, and their checks in a process of their own (route_checks.py)."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import PreTrainedModel

import compress
from compress.checkpoint import save
from compress.conformers import block_units, family_of, frame_outputs, front_channels
from compress.structure import Block, Structure
from compress.surgery.stock import route_of
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import forked
from tests.helpers.processors import processor_of
from tests.helpers.tiny import MODELS, VOCABULARY, batch, random_structure

CHECKS = Path(__file__).resolve().parent / "route_checks.py"
EVERY_CHECK = (
    "loads", "bfloat16", "device_map", "attention", "gradient_checkpointing", "compiled", "saved_again", "pipeline",
)  # fmt: skip
UNTRUE_OF_THE_ORIGINAL = {
    "seamless_m4t_v2": ("attention",),
    "granite_speech": ("attention", "gradient_checkpointing", "pipeline"),
    "nemotron_asr_streaming": ("attention", "compiled"),
    "nemotron3_5_asr": ("attention", "compiled"),
}
"""Per family, checks that the original model of transformers does not pass either."""
TRANSDUCERS = ("AutoModelForTDT", "AutoModelForRNNT")
"""The pipeline of transformers knows these by their original `model_type` alone."""
HEADS, FFN_UNITS, CHANNELS = 3, 40, 5
ENDINGS = {"folder": "", "tensors": ".safetensors", "again": "-again"}


def processor_for(model: PreTrainedModel, text: str = "the quick brown fox") -> Any:
    family = family_of(model)
    processor = build_processor(family.name, [text], TokensConfig(), mel_bins=16 // family.features_per_bin)
    return processor if len(processor.tokenizer) <= VOCABULARY else processor_for(model, "the cat")


def stock_structure(model: PreTrainedModel, seed: int = 0) -> Structure:
    """A Structure that the original's class can hold: fewer blocks, equally many heads, FFN units and channels."""
    family, chooser = family_of(model), random.Random(seed)
    assert family.stock
    blocks: list[Block | None] = []
    for counts in block_units(model):
        ffns = ("ffn1", "ffn2") if family.stock.ffn_units else ()
        kept = {name: tuple(sorted(chooser.sample(range(counts[name]), FFN_UNITS))) for name in ffns}
        if family.stock.heads:
            kept["attention"] = tuple(sorted(chooser.sample(range(counts["attention"]), HEADS)))
        blocks.append(Block(**kept))
    blocks[-1] = None
    channels = front_channels(model) if family.stock.front else {}
    front = {name: tuple(sorted(chooser.sample(range(count), CHANNELS))) for name, count in channels.items()}
    return Structure(family.name, tuple(blocks), front)


def structures(model: PreTrainedModel) -> dict[str, Structure]:
    """One Structure for each route that the model's family has."""
    found = {"code": random_structure(model, 9, front=True)}
    if family_of(model).stock:
        found["stock"] = stock_structure(model)
    return found


def build_cases(name: str, folder: Path) -> list[dict[str, Any]]:
    """Writes a checkpoint for each route of one of the tiny models, and what it must compute."""
    cases = []
    for route, structure in structures(MODELS[name]()).items():
        model = MODELS[name]()
        small, inputs = compress.remove(model, structure), batch(model)
        assert route_of(small.config) == route
        save(small, processor_for(model) if family_of(model).has_ctc else processor_of(small), folder / route)
        tensors = {**inputs, "outputs": frame_outputs(small, inputs).detach().contiguous()}
        paths = {key: str(folder / f"{route}{end}") for key, end in ENDINGS.items()}
        save_file(tensors, paths["tensors"])
        cases.append({"name": f"{name}/{route}", "route": route, **_way_in(model, route), **paths})
    return cases


def _way_in(model: PreTrainedModel, route: str) -> dict[str, Any]:
    """How the model is loaded and run, and what can be checked of it: what works before compression."""
    family = family_of(model)
    if family.has_ctc:
        return {"auto": family.auto_class}
    impossible = set(UNTRUE_OF_THE_ORIGINAL.get(family.name, ()))
    if route == "code" and family.auto_class in TRANSDUCERS:
        impossible.add("pipeline")
    return {
        "auto": family.auto_class,
        "encoder": [path for path in (family.projection, family.encoder) if path],
        "masked": not family.ignores_padding,
        "checks": sorted(set(EVERY_CHECK) - impossible),
    }


def check_cases(
    cases: list[dict[str, Any]], folder: Path, *, with_package: bool = False, python: str | None = None
) -> Any:
    """What route_checks.py finds in a process of its own.

    Args:
        cases: see there.
        folder: for what it reads and writes.
        with_package: check the classes of the package; else of a process that has never imported it.
        python: of another environment.
    """
    (folder / "cases.json").write_text(json.dumps(cases))
    command = [str(CHECKS), str(folder / "cases.json"), str(folder / "results.json")]
    command += ["--with-package"] if with_package else []
    environment = {"HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    if python:
        subprocess.run([python, *command], cwd=folder, env=os.environ | environment, check=True, capture_output=True)
    else:
        ended = forked.run(command, stranger=not with_package, **environment)
        assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "results.json").read_text())
