"""recipes/prune.py through its real command lines, on a tiny model and tiny generated speech."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import compress
from compress.checkpoint import apply_structure, load_model, save
from compress.cli import main
from compress.config import parse
from compress.conformers import blocks_of, family_of, frame_outputs
from compress.cost import dummy_input, size_of
from compress.data import Batch, SpeechConfig
from compress.deciding.gates import Gates
from compress.evaluation import GenerateConfig, SpeedConfig
from compress.evaluation.evaluate import EvaluateConfig, evaluate_models
from compress.structure import Structure
from compress.training.loop.finite import NotFiniteError
from compress.training.student import GatedStudent
from tests.helpers.launching import (
    ACCELERATE,
    TORCHRUN,
    command,
    done,
    launch,
    load_recipe,
    make_split,
    metrics,
)
from tests.helpers.processors import processor_of
from tests.helpers.tiny import OTHER_MODELS, SETTINGS, granite_speech

RECIPE = "recipes/prune.py"
LEARN, RECOVER = 8, 4
SMALL_MIB = 4

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
threads: 1
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
threads: 1
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


def test_tensorboard_gets_every_number_of_every_step(finished: Path) -> None:
    events = EventAccumulator(str(next(finished.rglob("events.out.tfevents*")).parent)).Reload()
    kinds = ("module", "head", "ffn_unit", "conv_channel")
    gates = [f"gates/{state}/{kind}" for state in ("open", "undecided") for kind in kinds]
    sizes = ["size/expected", "size/target", "multiplier/linear", "multiplier/quadratic", "learning_rate"]
    losses = [f"loss/{name}" for name in ("layers", "output", "ctc", "budget", "gradient_norm")]
    for name in (*gates, *sizes, *losses):
        followed = events.Scalars(f"learn/{name}")
        assert [event.step for event in followed] == list(range(1, LEARN + 1))
        assert [event.value for event in followed] == pytest.approx(metrics(finished / "learn", name), rel=1e-5)
    last = events.Scalars("recover/loss/layers")[-1]
    assert last.step == LEARN + RECOVER
    assert events.Scalars("recover/dev/wer")


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
    """Killed at random steps, twice by SIGKILL and once by SIGTERM; nothing but the times differs."""
    tool, output = load_recipe("tools/kill_and_resume.py"), folder / "killed"
    tool.in_pieces(
        command(RECIPE, [sys.executable], folder / "prune.yaml", output), output, LEARN + RECOVER, 3, random.Random()
    )
    assert list(tool.differences(finished, output)) == []
    (output / "done.json").write_text("{}")
    assert list(tool.differences(finished, output)) == ["done.json differs"]


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


@pytest.mark.parametrize(
    ("family", "extra"),
    [
        ("wav2vec2_conformer", {"position_embeddings_type": "relative"}),
        ("wav2vec2_conformer", {"position_embeddings_type": "rotary"}),
        ("wav2vec2_bert", {}),
        ("lasr", {}),
        ("granite_speech5", {}),
        ("torchaudio_conformer", {"use_group_norm": True}),
    ],
)
def test_the_other_families(folder: Path, tmp_path: Path, family: str, extra: dict[str, Any]) -> None:
    """A teacher of every family is trained and reaches its budget in 20 steps."""
    teacher = yaml.safe_load((folder / "teacher.yaml").read_text())
    sizes = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 96}
    if family == "torchaudio_conformer":
        sizes = {"num_layers": 2, "input_dim": 32, "ffn_dim": 96}
    teacher["model"] = {"family": family, "settings": {**SETTINGS[family], **sizes, **extra}}
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(teacher))))
    recipe = load_recipe("recipes/train.py")
    arguments = ["--config", str(tmp_path / "teacher.yaml"), "--output", str(tmp_path / "t")]
    recipe.main(parse(recipe.Config, arguments, prog=""))
    output = prune_here(
        folder, tmp_path / "run", "--teacher", str(tmp_path / "t" / "best"), "--learn.steps", "20",
        "--checkpoint_every_steps", "20",
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


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_models_without_a_ctc_head(folder: Path, tmp_path: Path, name: str) -> None:
    """Their encoder reaches its budget in 20 steps without transcripts; they write by `generate`, also afterwards."""
    # a processor of Granite Speech forgets any number of mel bins but its default when it is saved
    model = granite_speech(input_dim=160) if name == "granite_speech" else OTHER_MODELS[name]()
    save(model, processor_of(model), tmp_path / "teacher")
    output = prune_here(
        folder, tmp_path / "run", "--teacher", str(tmp_path / "teacher"), "--distill.ctc", "0", "--learn.steps", "20",
        "--recover.steps", "2", "--checkpoint_every_steps", "20", "--budget.denominator", "encoder",
        "--generate.max_new_tokens", "5", "--dev_limit", "2",
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
        data=SpeechConfig(str(folder / "speech"), split="dev", limit=2),
        baseline=str(tmp_path / "teacher"),
        generate=GenerateConfig(max_new_tokens=5),
        speed=SpeedConfig(seconds=1, warmup=0, repetitions=1),
    )
    report = evaluate_models(config)
    assert report["model"]["parameters"]["encoder"] == done(output)["achieved"]
    assert 0 < report["model"]["macs_per_second"] < report["baseline"]["macs_per_second"]
    assert report["model"]["wer"] > 0


def test_a_model_without_a_ctc_head_has_no_ctc_loss(folder: Path, tmp_path: Path) -> None:
    model = OTHER_MODELS["canary"]()
    save(model, processor_of(model), tmp_path / "teacher")
    with pytest.raises(ValueError, match=r"teacher has no CTC head: set distill.ctc to 0"):
        prune_here(folder, tmp_path / "run", "--teacher", str(tmp_path / "teacher"))


@pytest.mark.parametrize("method", ["magnitude", "proportional", "uniform", "fresh"])
def test_what_stays_can_be_chosen_without_learning(folder: Path, tmp_path: Path, method: str) -> None:
    fresh = ("--fresh_weights", "true") if method == "fresh" else ()
    structure = "proportional" if fresh else method
    output = prune_here(folder, tmp_path / "run", "--structure", structure, "--recover.steps", "2", *fresh)
    assert done(output)["structure"] == structure
    assert done(output)["parameters"] == done(output)["achieved"] <= done(output)["limit"]
    assert done(output)["recover"]["steps"] == 2
    assert done(output)["route"] == ("stock" if method == "uniform" else "code")
    assert not (output / "learn").exists()
    assert "expected at the end" not in (output / "final" / "README.md").read_text()
    teacher, small = load_model(str(folder / "teacher" / "best")), load_model(str(output / "removed"))
    applied = compress.remove(teacher, Structure.load(output / "removed" / "structure.json"))
    same = [torch.equal(mine, theirs) for mine, theirs in zip(small.parameters(), applied.parameters(), strict=True)]
    assert not all(same) if fresh else all(same)
    weights, drawn = small.encoder.layers[0].norm_out.weight, small.encoder.layers[0].feed_forward1.linear1.weight
    assert torch.equal(weights, torch.ones_like(weights)) or not fresh
    assert drawn.abs().max() > 0.1 or not fresh


def test_what_stays_can_be_a_file(folder: Path, finished: Path, tmp_path: Path) -> None:
    file = finished / "removed" / "structure.json"
    output = prune_here(folder, tmp_path / "run", "--structure", str(file), "--budget", "null", "--recover.steps", "2")
    assert done(output)["structure"] == str(file)
    assert done(output)["parameters"] == done(finished)["parameters"]
    assert Structure.load(output / "final" / "structure.json") == Structure.load(file)


def test_what_stays_can_be_what_a_search_found(folder: Path, tmp_path: Path) -> None:
    """`compress search`, then mask-free distillation from the teacher without the block."""
    teacher, search = folder / "teacher" / "best", tmp_path / "search"
    words = ["--data", str(folder / "speech"), "--data.cache_dir", str(folder / "cache"), "--batch.workers", "0"]
    assert main(["search", str(teacher), *words, "--remove", "1", "--jobs", "1", "--out", str(search)]) == 0
    given = ("--structure", str(search / "structure.json"), "--budget", "null", "--recover.steps", "2")
    output = prune_here(folder, tmp_path / "run", *given)
    structure = Structure.load(search / "structure.json")
    removed, before = load_model(str(output / "removed")), compress.remove(load_model(str(teacher)), structure)
    assert len(blocks_of(before)) == 1
    assert all(map(torch.equal, removed.parameters(), before.parameters()))
    assert len(metrics(output / "recover", "loss/layers")) == done(output)["recover"]["steps"] == 2
    assert not (output / "learn").exists()
    assert done(output)["route"] == "stock"
    assert Structure.load(output / "final" / "structure.json") == structure


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("--structure", "magnitud"), "structure is 'magnitud'"),
        (("--budget", "null"), "learned, magnitude, proportional, uniform need a budget"),
        (("--fresh_weights", "true"), "fresh_weights needs another structure"),
    ],
)
def test_structure_and_budget_must_go_together(folder: Path, overrides, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as error:
        prune_here(folder, folder / "refused", *overrides)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_two_runs_in_one_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    """A launcher that is killed can leave its process running: the same command must not write among its files."""
    output = tmp_path / "run"
    output.mkdir()
    with FileLock(output / ".lock"):
        result = launch(RECIPE, [sys.executable], folder / "prune.yaml", output)
    assert result.returncode == 2
    assert f"Another run is writing to {output}: wait until it has ended, or stop its processes." in result.stderr
    assert not (output / "checkpoints").exists()


def half_done(finished: Path, output: Path) -> Path:
    """A run that was killed in its last phase."""
    shutil.copytree(finished, output)
    (output / "done.json").unlink()
    shutil.rmtree(output / "checkpoints" / "recover" / f"step-{RECOVER:08d}")
    return output


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", truncate),
        ("optimizer.pt", truncate),
        ("model.safetensors", lambda path: save_file({"another.weight": torch.zeros(2)}, path)),
        ("checkpoint.json", lambda path: edit(path, '"files"', '"file"')),
        ("checkpoint.json", lambda path: path.write_text(path.read_text()[:200])),
    ],
    ids=["truncated", "truncated optimizer", "wrong keys", "edited JSON", "truncated JSON"],
)
def test_a_corrupt_checkpoint_is_named_and_the_one_before_goes_on(
    folder: Path, finished: Path, tmp_path: Path, capsys, file: str, damage
) -> None:
    output = half_done(finished, tmp_path / "run")
    newest = output / "checkpoints" / "recover" / f"step-{RECOVER - 1:08d}"
    damage(newest / file)
    prune_here(folder, output, "--trackers", "[tensorboard]")
    log = capsys.readouterr().err
    assert f"{newest} is damaged ({file}" in log
    assert "is passed over" in log
    assert list(load_recipe("tools/kill_and_resume.py").differences(finished, output)) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: truncate(folder / "model.safetensors"), "cannot be loaded"),
        (lambda folder: save_file({"x": torch.zeros(2)}, folder / "model.safetensors"), "missing keys: "),
        (lambda folder: edit(folder / "config.json", '"blocks": [', '"blocks": [7, '), r"blocks\[0\] must be null or"),
        (lambda folder: (folder / "config.json").write_text("{"), "valid JSON"),
    ],
    ids=["truncated", "wrong keys", "edited JSON", "broken JSON"],
)
def test_a_corrupt_model_is_named_left_alone_and_made_anew_once_deleted(
    folder: Path, finished: Path, tmp_path: Path, damage, message: str
) -> None:
    output = half_done(finished, tmp_path / "run")
    removed, final = output / "removed", (output / "final" / "model.safetensors").read_bytes()
    damage(removed)
    before = {path.name: path.read_bytes() for path in removed.iterdir()}
    with pytest.raises(ValueError, match=message) as error:
        prune_here(folder, output)
    assert f"Delete {removed} and run the same command again" in str(error.value)
    assert {path.name: path.read_bytes() for path in removed.iterdir()} == before
    assert (output / "final" / "model.safetensors").read_bytes() == final
    shutil.rmtree(removed)
    prune_here(folder, output)
    assert list(load_recipe("tools/kill_and_resume.py").differences(finished, output)) == []


def edit(path: Path, old: str, new: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def spoil(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Puts a NaN into the features of one file, in every batch that it is part of."""
    whole = Batch.to

    def to(batch: Batch, device: torch.device | str) -> Batch:
        for row, file in enumerate(batch.ids):
            if file.endswith(name):
                batch.inputs["input_features"][row, 3] = torch.nan
        return whole(batch, device)

    monkeypatch.setattr(Batch, "to", to)


def test_a_nan_is_named_and_skipped(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    spoil(monkeypatch, "20.wav")
    output = prune_here(folder, tmp_path / "run")
    log = capsys.readouterr().err
    assert "It began in the input input_features of " in log
    assert "20.wav. Losses: layers nan, output nan, ctc nan, budget " in log
    skipped = done(output)["learn"]["skipped_steps"]
    assert skipped >= 1
    assert len(metrics(output / "learn", "loss/layers")) == LEARN - skipped
    assert "NaN" not in (output / "learn" / "metrics.jsonl").read_text()
    for name in ("gated", "removed", "final"):
        weights = load_file(output / name / "model.safetensors").values()
        assert all(torch.isfinite(tensor).all() for tensor in weights if tensor.is_floating_point())


def test_at_the_limit_of_nans_the_run_stops_and_keeps_what_it_has(folder: Path, tmp_path: Path, monkeypatch) -> None:
    spoil(monkeypatch, "20.wav")
    output = tmp_path / "run"
    with pytest.raises(
        NotFiniteError, match=r"20\.wav.*1 steps were skipped, the limit \(max_skipped_steps\)"
    ) as error:
        prune_here(folder, output, "--max_skipped_steps", "1")
    failed = int(str(error.value).split()[1])
    assert not (output / "gated").exists()
    monkeypatch.undo()
    kept = sorted(path.name for path in (output / "checkpoints" / "learn").iterdir()) if failed else []
    assert kept == [f"step-{step:08d}" for step in range(1, failed + 1)]
    prune_here(folder, output, "--max_skipped_steps", "2")
    assert done(output)["learn"]["skipped_steps"] == 0


def test_a_gate_that_is_spoilt_is_named_and_never_written(folder: Path, tmp_path: Path, monkeypatch) -> None:
    after_step, output = GatedStudent.after_step, tmp_path / "run"
    steps = []

    def spoilt(student: GatedStudent) -> None:
        after_step(student)
        steps.append(1)
        if len(steps) == 4:
            with torch.no_grad():
                student.gates.log_alpha[0] = torch.nan

    monkeypatch.setattr(GatedStudent, "after_step", spoilt)
    with pytest.raises(NotFiniteError, match=r"After step 4 the model is not finite: the gate blocks\.0\.ffn1\.module"):
        prune_here(folder, output)
    kept = sorted((output / "checkpoints" / "learn").iterdir())
    assert [path.name for path in kept] == [f"step-{step:08d}" for step in (1, 2, 3)]
    assert torch.isfinite(load_file(kept[-1] / "model.safetensors")["gates.log_alpha"]).all()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a few checkpoints."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("only root may mount a small file system, which this test fills")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(folder: Path, finished: Path, small_disk: Path) -> None:
    output = small_disk / "run"
    result = launch(RECIPE, [sys.executable], folder / "prune.yaml", output)
    assert result.returncode == 2
    assert f"Could not write {output}" in result.stderr
    assert "No space left on device" in result.stderr
    assert "0 MiB are free there. Free some space and run the same command again" in result.stderr
    assert "Traceback" not in result.stderr
    kept = sorted((output / "checkpoints" / "learn").iterdir())
    assert kept
    assert all(path.name.startswith("step-") and not path.name.endswith(".partial") for path in kept)
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    result = launch(RECIPE, [sys.executable], folder / "prune.yaml", output)
    assert result.returncode == 0, result.stderr
    assert "passed over" not in result.stderr
    assert list(load_recipe("tools/kill_and_resume.py").differences(finished, output)) == []
