"""recipes/prune.py through its real command lines, on a tiny model and tiny generated speech."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import compress
from compress.checkpoint import apply_structure, load_model
from compress.structure import Structure
from tests.recipes.launching import (
    ACCELERATE,
    LAUNCH_SECONDS,
    REPOSITORY,
    TORCHRUN,
    command,
    done,
    environment,
    launch,
    load_recipe,
    make_split,
    metrics,
)

RECIPE = "recipes/prune.py"
LEARN, RECOVER = 8, 4

TEACHER = """
output: OUTPUT
model:
  family: parakeet
  settings:
    hidden_size: 32
    num_hidden_layers: 2
    num_attention_heads: 2
    intermediate_size: 96
    subsampling_conv_channels: 4
    subsampling_factor: 4
data: {source: DATA, cache_dir: CACHE}
batch: {seconds: 12, workers: 0}
max_steps: 4
optimizer: {warmup_steps: 1}
trackers: []
"""

CONFIG = f"""
teacher: TEACHER
output: OUTPUT
data: {{source: DATA, cache_dir: CACHE}}
budget: {{params: 50%}}
gates: {{drop_rate: 0.05, ffn_drop_rate: 0.05}}
learn:
  steps: {LEARN}
  learning_rate: 1.0e-3
  warmup_steps: 2
  gate_learning_rate: 0.5
  multiplier_learning_rate: 2.0
recover: {{steps: {RECOVER}, learning_rate: 1.0e-3}}
batch: {{seconds: 12, workers: 0}}
evaluate_every_steps: 2
checkpoint_every_steps: 1
keep_checkpoints: 20
log_every_steps: 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech, a teacher, and the config of a compression."""
    folder = tmp_path_factory.mktemp("prune")
    make_split(folder / "speech" / "train", 24, seed=1)
    make_split(folder / "speech" / "dev", 7, seed=2)
    values = {"DATA": folder / "speech", "CACHE": folder / "cache", "TEACHER": folder / "teacher" / "best"}
    for name, text in (("teacher", TEACHER), ("prune", CONFIG)):
        for key, value in values.items():
            text = text.replace(key, str(value))
        (folder / f"{name}.yaml").write_text(text.replace("OUTPUT", str(folder / name)))
    result = launch("recipes/train.py", [sys.executable], folder / "teacher.yaml", folder / "teacher")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    """The output of a whole run, as `accelerate launch --cpu` leaves it."""
    output = folder / "finished"
    result = launch(RECIPE, ACCELERATE, folder / "prune.yaml", output)
    assert result.returncode == 0, result.stderr
    return output


def test_requested_expected_and_achieved_are_reported(finished: Path) -> None:
    numbers = done(finished)
    final = load_model(str(finished / "final"))
    assert numbers["requested"] == "params 50% of total"
    assert numbers["full"] == numbers["parameters_before"] == load_model(str(finished / "gated")).num_parameters()
    assert numbers["limit"] == numbers["full"] // 2
    assert numbers["achieved"] == numbers["parameters"] == sum(p.numel() for p in final.parameters())
    assert numbers["achieved"] <= numbers["limit"]
    assert 0 < numbers["expected"] < numbers["full"]
    assert numbers["wer"]["dev"] == min(metrics(finished / "recover", "dev/wer"))


def test_every_loss_and_size_is_followed(finished: Path) -> None:
    for name in ("layers", "output", "ctc", "budget"):
        assert len(metrics(finished / "learn", f"loss/{name}")) == LEARN
    assert metrics(finished / "learn", "size/target")[-1] == pytest.approx(0.5, abs=1e-4)
    assert len(metrics(finished / "learn", "multiplier/linear")) == LEARN
    assert "loss/budget" not in (finished / "recover" / "metrics.jsonl").read_text()
    assert list(finished.rglob("events.out.tfevents*"))


def test_each_phase_leaves_something_usable(finished: Path, tmp_path: Path) -> None:
    """The gated model is a stock one that computes what the removed one computes; applying its Structure makes it."""
    gated, removed = (load_model(str(finished / name)) for name in ("gated", "removed"))
    assert type(gated).__name__ == "ParakeetForCTC"
    features = torch.randn(1, 80, 80, generator=torch.Generator().manual_seed(0))
    expected = gated(input_features=features).logits
    assert torch.allclose(expected, removed(input_features=features).logits, atol=1e-5)
    apply_structure(str(finished / "gated"), str(finished / "gated" / "structure.json"), str(tmp_path / "applied"))
    applied = load_model(str(tmp_path / "applied"))
    assert torch.allclose(applied(input_features=features).logits, removed(input_features=features).logits, atol=1e-6)
    structure = Structure.load(finished / "final" / "structure.json")
    assert structure == Structure.load(finished / "removed" / "structure.json")
    assert compress.remove(gated, structure).config.structure == removed.config.structure


def test_killed_and_resumed_equals_never_interrupted(folder: Path, finished: Path) -> None:
    """Killed once while gates are learned and once during recovery."""
    output = folder / "killed"
    for phase, step in (("learn", 5), ("recover", 2)):
        process = subprocess.Popen(
            command(RECIPE, [sys.executable], folder / "prune.yaml", output),
            cwd=REPOSITORY,
            env=environment(),
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + LAUNCH_SECONDS
        while not (output / "checkpoints" / phase / f"step-{step:08d}").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = launch(RECIPE, [sys.executable], folder / "prune.yaml", output)
    assert result.returncode == 0, result.stderr
    for phase, names in (("learn", ("loss/layers", "loss/budget", "multiplier/linear")), ("recover", ("loss/output",))):
        for name in names:
            assert metrics(output / phase, name) == metrics(finished / phase, name)
    for name in ("gated", "removed", "final"):
        whole, resumed = (load_file(run / name / "model.safetensors") for run in (finished, output))
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(resumed[key], tensor) for key, tensor in whole.items())
    same = ("limit", "expected", "achieved", "wer")
    assert {key: done(output)[key] for key in same} == {key: done(finished)[key] for key in same}


def test_two_processes_reach_the_budget(folder: Path, finished: Path) -> None:
    output = folder / "two"
    result = launch(RECIPE, TORCHRUN, folder / "prune.yaml", output)
    assert result.returncode == 0, result.stderr
    assert set(done(output)) == set(done(finished))
    assert done(output)["achieved"] <= done(output)["limit"] == done(finished)["limit"]
    assert done(output)["expected"] == pytest.approx(done(finished)["expected"], rel=0.2)
    final = load_model(str(output / "final"))
    assert sum(p.numel() for p in final.parameters()) == done(output)["achieved"]


def test_started_again_it_says_that_it_has_ended(folder: Path, finished: Path) -> None:
    before = done(finished)
    result = launch(RECIPE, [sys.executable], folder / "prune.yaml", finished)
    assert result.returncode == 0, result.stderr
    assert "has already ended" in result.stderr
    assert done(finished) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("--budget.params", "1%"), "cannot be reached: with these gates this model reaches from"),
        (("--budget.parms", "50%"), "params"),
        (("--teacher", "./nowhere"), "There is no folder './nowhere'"),
        (("--gates.units", "[heads]"), "choose from module, head"),
    ],
)
def test_mistakes_are_refused_before_anything_is_trained(folder: Path, overrides, message: str) -> None:
    result = launch(RECIPE, [sys.executable], folder / "prune.yaml", folder / "refused", *overrides)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "refused" / "checkpoints").exists()


def prune_here(folder: Path, output: Path, *overrides: str, source: str | None = None) -> Path:
    from compress.config import parse

    recipe = load_recipe(RECIPE)
    arguments = ["--config", str(folder / "prune.yaml"), "--output", str(output), "--trackers", "[]", *overrides]
    recipe.main(parse(recipe.Config, arguments, prog="prune.py"))
    return output


def test_pure_distillation_needs_no_transcripts(folder: Path, tmp_path: Path) -> None:
    speech = tmp_path / "speech" / "train"
    make_split(speech, 8, seed=3)
    rows = (speech / "metadata.csv").read_text().splitlines()
    (speech / "metadata.csv").write_text("\n".join(["file_name", *(row.split(",")[0] for row in rows[1:])]) + "\n")
    output = prune_here(
        folder, tmp_path / "run", "--data.source", str(tmp_path / "speech"), "--dev_split", "null",
        "--distill.ctc", "0", "--distill.distance", "mse", "--learn.steps", "3", "--recover.steps", "2",
    )  # fmt: skip
    numbers = done(output)
    assert numbers["achieved"] <= numbers["limit"]
    assert numbers["wer"] is None
    assert "loss/ctc" not in (output / "learn" / "metrics.jsonl").read_text()
    assert load_model(str(output / "final")).num_parameters() == numbers["achieved"]


@pytest.mark.parametrize("budget", ["macs", "encoder"])
def test_other_budgets(folder: Path, tmp_path: Path, budget: str) -> None:
    overrides = {
        "macs": ("--budget.params", "null", "--budget.macs", "60%", "--budget.seconds", "4"),
        "encoder": ("--budget.params", "40%", "--budget.denominator", "encoder", "--gates.units", "[module, ffn_unit]"),
    }[budget]
    output = prune_here(folder, tmp_path / "run", *overrides, "--learn.steps", "3", "--recover.steps", "1")
    facts = json.loads((output / "final" / "compression.json").read_text())
    assert facts["achieved"] <= facts["limit"] < facts["full"]
    assert facts["requested"] == {"macs": "macs 60% of total at 4 s", "encoder": "params 40% of encoder"}[budget]
    assert facts["metric"] == {"macs": "macs", "encoder": "params"}[budget]


def test_a_compressed_teacher_can_be_compressed_again(folder: Path, finished: Path, tmp_path: Path) -> None:
    output = prune_here(
        folder, tmp_path / "run", "--teacher", str(finished / "final"), "--budget.params", "80%",
        "--learn.steps", "2", "--recover.steps", "1",
    )  # fmt: skip
    facts = json.loads((output / "final" / "compression.json").read_text())
    assert facts["parameters_before"] == done(finished)["achieved"]
    assert facts["parameters"] <= 0.8 * facts["parameters_before"]
    assert facts["teacher_compression"]["requested"] == "params 50% of total"
    assert len(load_model(str(output / "final")).config.structure["blocks"]) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("--log_every_steps", "0"), "log_every_steps must be at least 1, got 0"),
        (("--learn.warmup_steps", "9"), "steps=8 and warmup_steps=9"),
        (("--recover.steps", "0"), "got steps=0"),
        (("--learn.budget_warmup", "3"), "learn.budget_warmup is a share of the phase"),
    ],
)
def test_senseless_numbers_are_refused(folder: Path, overrides, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as error:
        prune_here(folder, folder / "refused", *overrides)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_a_later_phase_may_still_be_changed(folder: Path, tmp_path: Path) -> None:
    output = prune_here(folder, tmp_path / "run", "--learn.steps", "2", "--recover.steps", "1")
    (output / "done.json").unlink()
    recipe = load_recipe(RECIPE)
    assert recipe.CHANGEABLE["learn"] == ("recover.*",)
    shutil.rmtree(output / "checkpoints" / "recover")
    prune_here(folder, output, "--learn.steps", "2", "--recover.steps", "2", "--recover.learning_rate", "1e-4")
    assert done(output)["recover"]["steps"] == 2
    assert done(output)["learn"]["steps"] == 2


def test_layerwise_distillation_alone_on_two_processes(folder: Path, tmp_path: Path) -> None:
    overrides = ("--distill.output", "0", "--distill.ctc", "0", "--learn.steps", "3", "--recover.steps", "2")
    result = launch(RECIPE, TORCHRUN, folder / "prune.yaml", tmp_path / "run", *overrides)
    assert result.returncode == 0, result.stderr
    assert done(tmp_path / "run")["achieved"] <= done(tmp_path / "run")["limit"]


@pytest.mark.parametrize("position", ["relative", "rotary"])
def test_the_other_family(folder: Path, tmp_path: Path, position: str) -> None:
    text = (folder / "teacher.yaml").read_text().replace("family: parakeet", "family: wav2vec2_conformer")
    text = text.replace("subsampling_conv_channels: 4", "conv_dim: [8, 8, 8, 8, 8]")
    text = text.replace("subsampling_factor: 4", f"position_embeddings_type: {position}")
    (tmp_path / "teacher.yaml").write_text(text)
    recipe = load_recipe("recipes/train.py")
    from compress.config import parse

    recipe.main(
        parse(recipe.Config, ["--config", str(tmp_path / "teacher.yaml"), "--output", str(tmp_path / "t")], prog="")
    )
    output = prune_here(
        folder,
        tmp_path / "run",
        "--teacher",
        str(tmp_path / "t" / "best"),
        "--learn.steps",
        "4",
        "--recover.steps",
        "2",
    )
    gated, final = (load_model(str(output / name)) for name in ("gated", "final"))
    assert final.num_parameters() == done(output)["achieved"] <= done(output)["limit"]
    assert type(gated).__name__ == "Wav2Vec2ConformerForCTC"
    assert final.config.hidden_dropout == gated.config.hidden_dropout == 0.1
    samples = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    removed = load_model(str(output / "removed"))
    assert torch.allclose(gated(samples).logits, removed(samples).logits, atol=1e-4)
