"""recipes/prune.py for a teacher of every family, with a CTC head and without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from compress.checkpoint import load_model, save
from compress.config import parse
from compress.conformers import family_of, frame_outputs
from compress.cost import dummy_input, size_of
from compress.data import SpeechConfig
from compress.deciding.gates import Gates
from compress.evaluation import EvaluateConfig, GenerateConfig, SpeedConfig
from compress.evaluation.evaluate import evaluate_models
from tests.helpers.launching import (
    done,
    load_recipe,
    metrics,
)
from tests.helpers.processors import processor_of
from tests.helpers.pruning import prune_here
from tests.helpers.tiny import OTHER_MODELS, SETTINGS, granite_speech

BRIEFLY = ("--learn.steps", "4", "--recover.steps", "2", "--checkpoint_every_steps", "20")


@pytest.mark.parametrize(
    ("family", "extra"),
    [
        ("wav2vec2_conformer", {"position_embeddings_type": "rotary"}),
        ("wav2vec2_bert", {"add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 32}),
        ("wav2vec2_conformer", {"add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 32}),
        ("lasr", {}),
        ("granite_speech5", {}),
        ("torchaudio_conformer", {"use_group_norm": True}),
    ],
)
def test_the_other_families(pruning: Path, tmp_path: Path, family: str, extra: dict[str, Any]) -> None:
    """A teacher of every family, with what it can have behind its encoder, is trained and reaches its budget."""
    teacher = yaml.safe_load((pruning / "teacher.yaml").read_text())
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 96}
    if family == "torchaudio_conformer":
        sizes = {"num_layers": 2, "input_dim": 32, "ffn_dim": 96}
    teacher["model"] = {"family": family, "settings": {**SETTINGS[family], **sizes, **extra}}
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(teacher))))
    recipe = load_recipe("recipes/train.py")
    arguments = ["--config", str(tmp_path / "teacher.yaml"), "--output", str(tmp_path / "t")]
    recipe.main(parse(recipe.Config, arguments, prog=""))
    output = prune_here(
        pruning, tmp_path / "run", "--teacher", str(tmp_path / "t" / "best"), *BRIEFLY,
    )  # fmt: skip
    teacher_model, final, removed = (
        load_model(str(path)) for path in (tmp_path / "t" / "best", output / "final", output / "removed")
    )
    assert final.num_parameters() == done(output)["achieved"] <= done(output)["limit"]
    assert done(output)["achieved"] > 0.95 * done(output)["limit"]
    assert type(final).__name__ == "Compressed" + type(teacher_model).__name__
    gated = load_model(str(output / "gated"))
    assert type(gated) is type(teacher_model)
    inputs = {gated.main_input_name: dummy_input(gated, 1.0, device="cpu")}
    if Gates(gated).folds_exactly:
        assert torch.allclose(gated(**inputs).logits, removed(**inputs).logits, atol=1e-4)
    assert torch.isfinite(final(**inputs).logits).all()


@pytest.mark.parametrize("name", [name for name in OTHER_MODELS if not name.endswith("-rotary")])
def test_models_without_a_ctc_head(pruning: Path, tmp_path: Path, name: str) -> None:
    """Their encoder reaches its budget without transcripts; they write by `generate`, also afterwards."""
    # a processor of Granite Speech forgets any number of mel bins but its default when it is saved
    model = granite_speech(input_dim=160) if name == "granite_speech" else OTHER_MODELS[name]()
    save(model, processor_of(model), tmp_path / "teacher")
    output = prune_here(
        pruning, tmp_path / "run", "--teacher", str(tmp_path / "teacher"), "--distill.ctc", "0", *BRIEFLY,
        "--budget.denominator", "encoder", "--generate.max_new_tokens", "5", "--dev_limit", "2",
    )  # fmt: skip
    final, removed, gated = (load_model(str(output / name)) for name in ("final", "removed", "gated"))
    assert size_of(final).encoder == done(output)["achieved"] <= done(output)["limit"]
    assert done(output)["achieved"] > 0.95 * done(output)["limit"]
    assert type(final).__name__ == "Compressed" + type(model).__name__
    assert metrics(output / "recover", "loss/output")
    outside = family_of(model).encoder + "."
    before, after = dict(model.named_parameters()), dict(final.named_parameters())
    assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith(outside))
    if Gates(gated).folds_exactly:
        inputs = {"input_features": dummy_input(gated, 1.0, device="cpu")}
        assert torch.allclose(frame_outputs(gated, inputs), frame_outputs(removed, inputs), atol=1e-4)
    config = EvaluateConfig(
        str(output / "final"),
        data=SpeechConfig(str(pruning / "speech"), split="dev", limit=2),
        baseline=str(tmp_path / "teacher"),
        generate=GenerateConfig(max_new_tokens=5),
        speed=SpeedConfig(seconds=1, warmup=0, repetitions=1),
    )
    report = evaluate_models(config)
    assert report["model"]["parameters"]["encoder"] == done(output)["achieved"]
    assert 0 < report["model"]["macs_per_second"] < report["baseline"]["macs_per_second"]
    assert report["model"]["wer"] > 0


def test_a_model_without_a_ctc_head_has_no_ctc_loss(pruning: Path, tmp_path: Path) -> None:
    model = OTHER_MODELS["canary"]()
    save(model, processor_of(model), tmp_path / "teacher")
    with pytest.raises(ValueError, match=r"teacher has no CTC head: set distill.ctc to 0"):
        prune_here(pruning, tmp_path / "run", "--teacher", str(tmp_path / "teacher"))
