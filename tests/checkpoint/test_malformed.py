"""Malformed checkpoints are refused with the field's name before memory is taken, and nothing of them is executed."""

from __future__ import annotations

import json
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCTC

import compress
from compress import Block, Structure, StructureError
from compress.checkpoint import CheckpointError, load_config, load_model, load_processor, save
from tests.helpers import forked
from tests.helpers.routes import processor_for, stock_structure
from tests.helpers.tiny import parakeet

BILLION = 10**9
CODE = Structure("parakeet", (Block(ffn1=(0, 1)), Block(), Block()))


def checkpoint(folder: Path, structure: Structure | None = None) -> Path:
    save(compress.remove(parakeet(), structure or CODE), processor_for(parakeet()), folder)
    return folder


def edit(folder: Path, change) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def nothing_is_allocated(call) -> None:
    """Runs with no more address space than there is in use, and a little: a billion of anything does not fit."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29), limits[1]))
    try:
        call()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


STRUCTURES = [
    ("all", "structure must be an object"),
    (3, "structure must be an object"),
    ({"family": "parakeet"}, r"missing keys \['blocks'\]"),
    ({"family": "lasr", "blocks": [{}]}, r"blocks\[0\]"),
    ({"family": "parakeet", "blocks": []}, "structure.blocks has 0 entries"),
    ({"family": "parakeet", "blocks": [None] * 1000}, "structure.blocks has 1000 entries"),
]
UNITS = [
    ("ffn1", [BILLION], rf"blocks\[0\].ffn1 keeps unit {BILLION}, but the model has 64"),
    ("ffn1", [-1], r"blocks\[0\].ffn1 holds -1"),
    ("attention", [1, 1], r"blocks\[0\].attention must be sorted without repetitions"),
    ("attention", [4], r"blocks\[0\].attention keeps unit 4, but the model has 4"),
    ("conv", {"kept": 3}, r"blocks\[0\].conv must be"),
    ("conv", BILLION, r"blocks\[0\].conv must be"),
    ("ffn2", ["0"], r"blocks\[0\].ffn2 holds '0'"),
    ("ffn2", [1.5], r"blocks\[0\].ffn2 holds 1.5"),
]


@pytest.mark.parametrize("load", [load_model, AutoModelForCTC.from_pretrained], ids=["load_model", "from_pretrained"])
def test_a_malformed_structure_in_the_config(tmp_path: Path, load) -> None:
    folder = checkpoint(tmp_path / "small")
    good = json.loads((folder / "config.json").read_text())
    for structure, message in STRUCTURES:
        edit(folder, lambda config, value=structure: config.update(structure=value))
        with pytest.raises(StructureError, match=message):
            nothing_is_allocated(lambda: load(str(folder)))
    for module, kept, message in UNITS:
        (folder / "config.json").write_text(json.dumps(good))
        edit(folder, lambda config, m=module, k=kept: config["structure"]["blocks"][0].update({m: k}))
        with pytest.raises(StructureError, match=message):
            nothing_is_allocated(lambda: load(str(folder)))


def test_a_config_with_a_billion_of_something(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "small")
    edit(folder, lambda config: config["encoder_config"].update(num_hidden_layers=BILLION))
    with pytest.raises(StructureError, match=f"3 entries, but encoder_config.num_hidden_layers is {BILLION}"):
        nothing_is_allocated(lambda: AutoModelForCTC.from_pretrained(str(folder)))
    with pytest.raises(CheckpointError, match=f"encoder_config.num_hidden_layers is {BILLION}; models have no more"):
        nothing_is_allocated(lambda: load_model(str(folder)))
    edit(folder, lambda config: config["encoder_config"].update(num_hidden_layers=3, intermediate_size=BILLION))
    with pytest.raises(CheckpointError, match=f"encoder_config.intermediate_size is {BILLION}; models have no more"):
        nothing_is_allocated(lambda: load_model(str(folder)))


def changed(config: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """The values to be changed; of an object that stands for another one, what it does not name stays."""
    blocks = {key: config[key] | value for key, value in change.items() if "blocks" in (value or ())}
    return change | blocks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"original_dimensions": None}, "must hold original_dimensions"),
        ({"original_dimensions": [1]}, "must hold original_dimensions"),
        ({"original_dimensions": {"__class__": 3}}, "must hold original_dimensions"),
        ({"structure": "all"}, "structure must be an object"),
        ({"structure": {"blocks": [None, None]}}, "structure.blocks has 2 entries"),
    ],
)
def test_a_malformed_stock_checkpoint(tmp_path: Path, change, message: str) -> None:
    folder = checkpoint(tmp_path / "small", stock_structure(parakeet()))
    edit(folder, lambda config: config.update(changed(config, change)))
    with pytest.raises(StructureError, match=message):
        nothing_is_allocated(lambda: load_model(str(folder)))


@pytest.mark.parametrize("value", [BILLION, -1, "64", None, True, 65])
def test_a_stock_checkpoint_of_other_dimensions(tmp_path: Path, value) -> None:
    folder = checkpoint(tmp_path / "small", stock_structure(parakeet()))
    path = "encoder_config.intermediate_size"
    edit(folder, lambda config: config["original_dimensions"].update({path: value}))
    if value == BILLION:
        with pytest.raises(CheckpointError, match=f"intermediate_size is {BILLION}; models have no more"):
            load_model(str(folder))
    elif value == 65:  # fits the structure, and is nothing that loading needs
        nothing_is_allocated(lambda: load_model(str(folder)))
    else:
        with pytest.raises(ValueError, match="intermediate_size"):
            load_model(str(folder))
    edit(folder, lambda config: config["original_dimensions"].update({path: 64}))
    edit(folder, lambda config: config["encoder_config"].update(intermediate_size=BILLION))
    with pytest.raises(StructureError, match=rf"{path} in config.json is {BILLION}, but its structure leaves 40"):
        nothing_is_allocated(lambda: load_model(str(folder)))


def test_a_structure_file_that_is_no_structure(tmp_path: Path) -> None:
    file = tmp_path / "structure.json"
    for text in ("{", "[" * 100_000, '{"family": "parakeet", "blocks": [' + "1" * 5000 + "]}", "\ud800"):
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(StructureError, match=r"structure.json is not valid JSON"):
            Structure.load(file)
    file.write_text(json.dumps({"family": "parakeet", "blocks": "x" * 10**6}))
    with pytest.raises(StructureError) as error:
        Structure.load(file)
    assert len(str(error.value)) < 500


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "small")
    weights = load_model(str(folder)).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no weights in the safetensors format"):
        load_model(str(folder))


STRANGER = """
import contextlib, pathlib, sys
assert "compress" not in sys.modules
sys.modules["compress"] = None
import transformers
for consent in (None, False, True):
    with contextlib.suppress(Exception):
        transformers.AutoModelForCTC.from_pretrained(sys.argv[1], trust_remote_code=consent)
    print(f"\\nran {consent} {pathlib.Path(sys.argv[2]).exists()}")  # the question has no end of line
"""
"""Says of every answer to the question whether the code may run whether it ran: with consent the marker tells."""


@pytest.mark.parametrize("structure", [CODE, None], ids=["code", "stock"])
def test_no_code_of_a_checkpoint_runs(tmp_path: Path, structure: Structure | None) -> None:
    """Neither where the package's own classes win, nor without the package and without consent."""
    folder = checkpoint(tmp_path / "small", structure or stock_structure(parakeet()))
    marker = tmp_path / "marker"
    (folder / "modeling_compressed.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    names = ("AutoConfig", "AutoModelForCTC", "AutoProcessor", "AutoFeatureExtractor", "AutoTokenizer")
    auto_map = {"auto_map": dict.fromkeys(names, "modeling_compressed.Anything")}
    edit(folder, lambda config: config.update(auto_map))
    load_config(str(folder))
    load_model(str(folder))
    load_processor(str(folder))
    for file in ("processor_config.json", "tokenizer_config.json"):
        (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | auto_map))
    with suppress(CheckpointError):  # whether it knows these classes or not
        load_processor(str(folder))
    words = ["-c", STRANGER, str(folder), str(marker)]
    ended = forked.run(words, stranger=True, HF_MODULES_CACHE=str(tmp_path / "modules"))
    said = [line for line in ended.stdout.splitlines() if line.startswith("ran ")]
    assert said == ["ran None False", "ran False False", "ran True True"], ended.stderr


def with_tensor(folder: Path, name: str, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors[name])
    save_file(tensors, path, {"format": "pt"})


LINEAR, VARIANCE = "encoder.layers.0.feed_forward1.linear1.weight", "encoder.layers.0.conv.norm.running_var"
VALUES = [
    (LINEAR, lambda tensor: tensor.index_fill(0, torch.tensor([0]), torch.nan), "holds values that are not finite"),
    (LINEAR, lambda tensor: tensor.index_fill(0, torch.tensor([1]), torch.inf), "holds values that are not finite"),
    (VARIANCE, lambda tensor: -tensor, "below 0, somewhere"),
    (LINEAR, lambda tensor: tensor.to(torch.int8), "is of type I8 in model.safetensors; weights must be F64, F32"),
    (LINEAR, lambda tensor: tensor > 0, "is of type BOOL in model.safetensors"),
    (LINEAR, lambda tensor: tensor.to(torch.complex64), "is of type C64 in model.safetensors"),
    (LINEAR, lambda tensor: tensor.to(torch.float8_e4m3fn), "is of type F8_E4M3 in model.safetensors"),
]


@pytest.mark.parametrize(("name", "change", "message"), VALUES)
@pytest.mark.parametrize("route", ["code", "stock"])
def test_weights_that_no_trained_model_has(tmp_path: Path, route: str, name: str, change, message: str) -> None:
    folder = checkpoint(tmp_path / "small", None if route == "code" else stock_structure(parakeet()))
    with_tensor(folder, name, change)
    with pytest.raises(CheckpointError, match=f"{name} .*{message}"):
        load_model(str(folder))
