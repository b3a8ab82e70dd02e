"""Every kind of input: how it is made, how the package reads it, and what must not get lost in silence.

Something is lost where what was accepted is not what the file says. That is told by comparison, kind by kind: the keys
of a config, the tree of a structure, the utterances of a data set and their lengths, the tensors of a file of weights,
the tokens of a tokenizer. Other letters in a transcript, other samples or another finite weight are another valid file,
which nothing could tell from the first.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import compress
from compress.checkpoint import load_recogniser, save
from compress.config import parse, to_dict
from compress.data import SpeechConfig, open_speech
from compress.structure import Block, Structure
from compress.training.loop.best import Best
from compress.training.loop.checkpoints import Checkpoints
from compress.training.new_models import ModelConfig, build_model
from compress.training.supervised import SupervisedConfig
from compress.training.tokens import TokensConfig, build_processor
from tools.hostility.kind import Kind
from tools.hostility.other_formats import OTHER_FORMATS
from tools.hostility.results import RESULTS

RATE, LETTERS = 16_000, "abcdefghijklmnop q"
SHORTER_SECONDS = 0.05
"""Codecs pad by less than this."""


def _make_yaml(folder: Path) -> None:
    content = {"output": "out", "data": {"source": "speech", "max_seconds": 20.0}, "model": {"family": "parakeet"},
               "optimizer": {"learning_rate": 1e-3, "warmup_steps": 10}, "batch": {"seconds": 40.0, "workers": 1},
               "augment": {"speed": [0.9, 1.1]}, "epochs": 3, "trackers": ["tensorboard"]}  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(content))


def _read_yaml(folder: Path) -> Any:
    return parse(SupervisedConfig, ["--config", str(folder / "run.yaml")], prog="train.py")


def _keys_lost(folder: Path, config: Any, _: Any) -> str:
    """What a file says, and the config does not."""
    tree = yaml.safe_load((folder / "run.yaml").read_text())
    return ", ".join(_differing(tree, to_dict(config))) if isinstance(tree, dict) else ""


def _differing(said: Mapping[str, Any], taken: Mapping[str, Any], *, only_known: bool = False) -> list[str]:
    names = []
    for key in (key for key in said if key in taken or not only_known):
        value, here = said[key], taken.get(key)
        if isinstance(value, dict) and isinstance(here, dict):
            names += [f"{key}.{name}" for name in _differing(value, here, only_known=only_known)]
        elif value != here and str(value) != str(here) and not (value is None and isinstance(here, dict)):
            names.append(str(key))
    return names


def _make_speech(folder: Path) -> None:
    (folder / "train").mkdir()
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, RATE).astype(np.float32)
    for name in ("a.wav", "b.flac", "c.ogg"):
        soundfile.write(folder / "train" / name, noise, RATE)
    rows = [("a.wav", "turn on"), ("b.flac", '"stop, now"'), ("c.ogg", "light")]
    lines = [("file_name", "transcription"), *rows]
    (folder / "train/metadata.csv").write_text("".join(f"{','.join(row)}\n" for row in lines))


def _read_speech(folder: Path) -> dict[str, float]:
    config = SpeechConfig(str(folder), cache_max_gib=0, max_bad_fraction=1.0)
    speech = open_speech(config, sampling_rate=RATE)
    return dict(zip(speech.ids, speech.seconds, strict=True))


def _speech_lost(_: Path, seconds: dict[str, float], whole: dict[str, float]) -> str:
    """Utterances that are not there or shorter than they were."""
    return ", ".join(name for name, length in whole.items() if abs(seconds.get(name, 0.0) - length) > SHORTER_SECONDS)


def _make_structure(folder: Path) -> None:
    Structure("parakeet", (Block(ffn1=(0, 1, 5)), None, Block())).save(folder / "structure.json")


def _read_structure(folder: Path) -> Any:
    return Structure.load(folder / "structure.json")


def _structure_lost(folder: Path, structure: Structure, _: Any) -> str:
    tree = json.loads((folder / "structure.json").read_text())
    return "" if structure.to_dict() == tree else f"{structure} of {str(tree)[:200]}"


def _make_model(folder: Path) -> None:
    processor = build_processor("parakeet", [LETTERS], TokensConfig(), mel_bins=16)
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
                "subsampling_conv_channels": 4, "num_mel_bins": 16}  # fmt: skip
    tokens = len(processor.tokenizer)
    model = build_model(ModelConfig("parakeet", settings), vocabulary_size=tokens, blank=tokens - 1)
    small = compress.remove(model, Structure("parakeet", (Block(ffn1=(0, 1, 5)), Block())))
    save(small, processor, folder, {"method": "prune"})


def _read_model(folder: Path) -> Any:
    return load_recogniser(str(folder))


def _repeated(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Keys that an object of a JSON file has twice."""
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        twice.extend(content if len(content) < len(pairs) else ())
        return content

    for name in names:
        json.loads((folder / name).read_text(), object_pairs_hook=look)
    return twice


def _config_lost(folder: Path, read: Any, _: Any) -> str:
    """Keys that are there twice, and those of which the model's config says something else."""
    said, taken = json.loads((folder / CONFIGS[0]).read_text()), read[0].config.to_dict()
    said.pop("transformers_version", None)  # says who wrote the file, and nothing depends on it
    return ", ".join([*_repeated(folder, CONFIGS), *_differing(said, taken, only_known=True)])


def _processor_lost(folder: Path, read: Any, _: Any) -> str:
    """Keys that are there twice, and outputs of the model that no token stands for."""
    model, processor = read
    known = set(processor.tokenizer.get_vocab().values())
    missing = [str(number) for number in range(model.config.vocab_size) if number not in known]
    return ", ".join([*_repeated(folder, PROCESSORS), *missing])


def _weights_lost(folder: Path, read: Any, _: Any) -> str:
    """Tensors of the file that the model does not have, or has with other values."""
    mine = read[0].state_dict()
    tensors = load_file(folder / "model.safetensors")
    return ", ".join(
        name for name, tensor in tensors.items() if name not in mine or not torch.equal(mine[name], tensor)
    )


def _net() -> tuple[nn.Module, torch.optim.Optimizer, Best]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters()), Best()


def _make_state(folder: Path) -> None:
    model, optimizer, best = _net()
    checkpoints = Checkpoints(folder, keep=2, settings={"seed": 0})
    for step in (1, 2):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        best.improved(1.0 / step, step)
        checkpoints.save(step, {"best": best}, model, optimizer)


def _read_state(folder: Path) -> list[Any]:
    """Where the run goes on: at either of its two checkpoints as it was, or at the start."""
    model, optimizer, best = _net()
    restored = Checkpoints(folder, keep=2, settings={"seed": 0}).restore({"best": best}, model, optimizer)
    step = restored.step if restored else 0
    weights = [round(float(value), 5) for value in next(model.parameters()).detach().flatten()]
    return [step, best.value if step else None, weights]


def _states(folder: Path) -> list[Any]:
    """All that is right after any damage."""
    if folder.name == "broken":
        return _read_state(folder)
    alone = folder.with_name("alone")
    right = [_read_state(folder)]
    for name in ("step-00000002", "step-00000001"):
        shutil.rmtree(alone, ignore_errors=True)
        shutil.copytree(folder, alone, ignore=shutil.ignore_patterns(name))
        right.append(_read_state(alone))
    return [*right, _read_state(folder.with_name("nothing"))]


def _state_lost(_: Path, state: Any, right: list[Any]) -> str:
    return "" if state in right else f"{state} instead of {right}"


CONFIGS = ("config.json", "compression.json")
PROCESSORS = ("processor_config.json", "tokenizer.json", "tokenizer_config.json")
SPEECH = ("train/a.wav", "train/b.flac", "train/c.ogg")
STATE = ("checkpoint.json", "states.pt", "optimizer.pt", "random-0.pt", "model.safetensors")
KINDS: Mapping[str, Kind] = {
    "yaml": Kind(("run.yaml",), _make_yaml, _read_yaml, _keys_lost),
    "metadata": Kind(("train/metadata.csv",), _make_speech, _read_speech, _speech_lost),
    "audio": Kind(SPEECH, _make_speech, _read_speech, _speech_lost),
    "structure": Kind(("structure.json",), _make_structure, _read_structure, _structure_lost),
    "config": Kind(CONFIGS, _make_model, _read_model, _config_lost),
    "processor": Kind(PROCESSORS, _make_model, _read_model, _processor_lost),
    "weights": Kind(("model.safetensors",), _make_model, _read_model, _weights_lost),
    "state": Kind(tuple(f"step-00000002/{name}" for name in STATE), _make_state, _states, _state_lost, "other"),
    **OTHER_FORMATS,
    **RESULTS,
}
"""Every kind of input, by its name."""
