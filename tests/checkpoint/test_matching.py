"""A checkpoint whose tokens are not those of its model is refused wherever the two meet, before anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compress.checkpoint import CheckpointError, load_recogniser, require_match, save
from compress.checkpoint.push import PushConfig, staged
from compress.cli import main
from compress.evaluation import EvaluateConfig
from compress.evaluation.evaluate import evaluate_models
from compress.files.reading import ReadError
from compress.search.analyze import AnalyzeConfig, analyze_blocks
from compress.search.blocks import SearchConfig, search_blocks
from compress.search.skip_settings import CalibrateConfig, calibrate
from compress.training.new_models import ModelConfig, build_model
from tests.helpers.launching import load_recipe
from tests.helpers.processors import processor_of
from tests.helpers.samples import parakeet_processor, wav2vec2_processor
from tests.helpers.tiny import OTHER_MODELS, SETTINGS

TOKENS = 30


def write_checkpoint(
    folder: Path, *, blank: int | None = TOKENS - 1, added: tuple[str, ...] = (), mel_bins: int = 16
) -> Path:
    """A tiny Parakeet with 30 outputs and a tokenizer of 30 tokens, of which the last is the blank, or what is told."""
    settings = SETTINGS["parakeet"] | {"num_hidden_layers": 2, "num_mel_bins": mel_bins}
    model = build_model(ModelConfig("parakeet", settings), vocabulary_size=TOKENS, blank=TOKENS - 1)
    processor = parakeet_processor()
    processor.tokenizer.add_tokens(list(added))
    save(model, processor, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": blank}))
    return folder


DEFECTS: dict[str, tuple[dict[str, Any], str]] = {
    "grown": ({"added": ("a1", "q")}, "has 31 tokens, but the model has outputs for 30: there is none for 'a1'"),
    "other blank": ({"blank": 0}, r"the CTC blank is token 0 by pad_token_id in config.json, and token 29 \('<pad>'\)"),
    "no blank": ({"blank": None}, "pad_token_id, the model's CTC blank, is None in config.json; set it to the number"),
    "other features": (
        {"mel_bins": 80},
        "takes 80 features a frame by encoder_config.num_mel_bins in config.json, ",
    ),
    "blank beyond": ({"blank": 30}, "CTC blank, is 30 in config.json; set it to the number of one of the model's 30"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_defects_are_named(tmp_path: Path, defect: str) -> None:
    change, message = DEFECTS[defect]
    with pytest.raises(CheckpointError, match=message):
        load_recogniser(str(write_checkpoint(tmp_path / "model", **change)))


def recipe(name: str, key: str) -> Callable[[str, str], object]:
    def run(model: str, out: str) -> object:
        sections = {"data": {"source": out}, "output": out, "trackers": [], "threads": 1, **nested(key, model)}
        sections |= {"budget": {"params": "50%"}} if name == "prune" else {}
        sections |= {"sizes": {"params": ["100%", "50%"]}} if name == "train_supernet" else {}
        path = Path(out + ".yaml")
        path.write_text(json.dumps(sections))
        module = load_recipe(f"recipes/{name}.py")
        return module.main(module.parse(module.Config, ["--config", str(path)], prog=name))

    return run


def nested(key: str, value: str) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


MEETINGS: dict[str, Callable[[str, str], object]] = {
    "evaluate": lambda model, out: evaluate_models(EvaluateConfig(model)),
    "search": lambda model, out: search_blocks(SearchConfig(model=model, remove=1, out=out)),
    "analyze": lambda model, out: analyze_blocks(AnalyzeConfig(model=model, out=out)),
    "skip": lambda model, out: calibrate(CalibrateConfig(model=model, out=out)),
    "push": lambda model, out: staged(PushConfig(model=model, repo_id="me/small")).__enter__(),
    "prune": recipe("prune", "teacher"),
    "train": recipe("train", "model.checkpoint"),
    "supernet": recipe("train_supernet", "model.checkpoint"),
}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_checkpoint(tmp_path_factory.mktemp("grown") / "model", added=("a1",)))


@pytest.mark.parametrize("meeting", MEETINGS)
def test_every_meeting_looks(tmp_path: Path, grown: str, meeting: str) -> None:
    with pytest.raises(CheckpointError, match="there is none for 'a1'"):
        MEETINGS[meeting](grown, str(tmp_path / "out"))


def test_damaged_facts_are_found_before_anything_is_measured(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    (folder / "compression.json").write_text("{")
    with pytest.raises(ReadError, match=r"compression.json is no JSON: line 1"):
        load_recogniser(str(folder))


def test_tensors_left_over_are_said_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"surplus": torch.ones(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    with pytest.raises(SystemExit):
        main(["elastic", str(folder), "--depths", "[1]", "--out", str(tmp_path / "out")])
    said = capfd.readouterr().err
    assert said.splitlines() == [
        f"compress elastic: error: The checkpoint '{folder}' does not fit its config: unexpected keys: ['surplus']."
    ]


def test_special_tokens_beyond_the_outputs_do_no_harm(tmp_path: Path) -> None:
    described = ModelConfig("wav2vec2_conformer", SETTINGS["wav2vec2_conformer"])
    config = build_model(described, vocabulary_size=30, blank=0).config
    processor = wav2vec2_processor(tmp_path)
    processor.tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    require_match(config, processor, "model")
    processor.tokenizer.add_tokens(["a1"])  # no special one: a transcript can be spelt with it
    with pytest.raises(CheckpointError, match="there is none for 'a1'"):
        require_match(config, processor, "model")


def test_features_are_not_samples(tmp_path: Path) -> None:
    config = build_model(ModelConfig("wav2vec2_bert", SETTINGS["wav2vec2_bert"]), vocabulary_size=30, blank=0).config
    with pytest.raises(CheckpointError, match=r"takes input_features, .* gives input_values"):
        require_match(config, wav2vec2_processor(tmp_path), "model")


def test_settings_by_which_no_feature_is_made_are_named(tmp_path: Path) -> None:
    config = build_model(ModelConfig("parakeet", SETTINGS["parakeet"]), vocabulary_size=30, blank=29).config
    processor = parakeet_processor()
    processor.feature_extractor.preemphasis = [None]
    with pytest.raises(CheckpointError, match=r"model: .* makes no features by its settings in processor_config\.json"):
        require_match(config, processor, "model")


def test_models_without_a_ctc_head_write_in_their_own_way() -> None:
    model = OTHER_MODELS["parakeet_tdt"]()
    processor = processor_of(model)
    require_match(model.config, processor, "model")
    narrow = build_model(ModelConfig("parakeet", SETTINGS["parakeet"]), vocabulary_size=5, blank=4).config
    with pytest.raises(CheckpointError):  # one with a CTC head has to have an output for every token
        require_match(narrow, processor, "model")
