"""recipes/prune.py through its real command lines, on a tiny model and tiny generated speech."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import compress
from compress.checkpoint import apply_structure, load_model, load_processor, save
from compress.checkpoint.weights import stored_dtype
from compress.structure import Structure
from tests.helpers.launching import (
    done,
    load_recipe,
    make_split,
    metrics,
    run_alone,
    run_on_two,
)
from tests.helpers.pruning import LEARN, RECIPE, RECOVER, prune_here


def test_requested_expected_and_achieved_are_reported(pruned: Path) -> None:
    numbers = done(pruned)
    final = load_model(str(pruned / "final"))
    assert numbers["requested"] == "params 50% of total"
    assert numbers["full"] == numbers["parameters_before"] == load_model(str(pruned / "gated")).num_parameters()
    assert numbers["limit"] == numbers["full"] // 2
    assert numbers["achieved"] == numbers["parameters"] == sum(p.numel() for p in final.parameters())
    assert numbers["achieved"] <= numbers["limit"]
    assert 0 < numbers["expected"] < numbers["full"]
    assert numbers["wer"]["dev"] == min(metrics(pruned / "recover", "dev/wer"))


def test_every_loss_and_size_is_followed(pruned: Path) -> None:
    for name in ("layers", "output", "ctc", "budget"):
        assert len(metrics(pruned / "learn", f"loss/{name}")) == LEARN
    assert metrics(pruned / "learn", "size/target")[-1] == pytest.approx(0.5, abs=1e-4)
    assert len(metrics(pruned / "learn", "multiplier/linear")) == LEARN
    assert "loss/budget" not in (pruned / "recover" / "metrics.jsonl").read_text()


def test_tensorboard_gets_every_number_of_every_step(pruned: Path) -> None:
    events = EventAccumulator(str(next(pruned.rglob("events.out.tfevents*")).parent)).Reload()
    kinds = ("module", "head", "ffn_unit", "conv_channel")
    gates = [f"gates/{state}/{kind}" for state in ("open", "undecided") for kind in kinds]
    sizes = ["size/expected", "size/target", "multiplier/linear", "multiplier/quadratic", "learning_rate"]
    losses = [f"loss/{name}" for name in ("layers", "output", "ctc", "budget", "total")]
    for name in (*gates, *sizes, *losses, "gradient_norm", "skipped_steps"):
        followed = events.Scalars(f"learn/{name}")
        assert [event.step for event in followed] == list(range(1, LEARN + 1))
        assert [event.value for event in followed] == pytest.approx(metrics(pruned / "learn", name), rel=1e-5)
    last = events.Scalars("recover/loss/layers")[-1]
    assert last.step == LEARN + RECOVER
    assert events.Scalars("recover/dev/wer")


def test_each_phase_leaves_something_usable(pruned: Path, tmp_path: Path) -> None:
    """The gated model is a stock one that computes what the removed one computes; applying its Structure makes it."""
    gated, removed = (load_model(str(pruned / name)) for name in ("gated", "removed"))
    assert type(gated).__name__ == "ParakeetForCTC"
    features = torch.randn(1, 80, 80, generator=torch.Generator().manual_seed(0))
    expected = gated(input_features=features).logits
    assert torch.allclose(expected, removed(input_features=features).logits, atol=1e-5)
    apply_structure(str(pruned / "gated"), str(pruned / "gated" / "structure.json"), str(tmp_path / "applied"))
    applied = load_model(str(tmp_path / "applied"))
    assert torch.allclose(applied(input_features=features).logits, removed(input_features=features).logits, atol=1e-6)
    structure = Structure.load(pruned / "final" / "structure.json")
    assert structure == Structure.load(pruned / "removed" / "structure.json")
    assert compress.remove(gated, structure).config.structure == removed.config.structure


def test_two_processes_reach_the_budget(runs_on_two: Callable[[str], Path], pruned: Path) -> None:
    output = runs_on_two("prune")
    assert done(output)["achieved"] <= done(output)["limit"] == done(pruned)["limit"]
    assert done(output)["expected"] == pytest.approx(done(pruned)["expected"], rel=0.2)
    final = load_model(str(output / "final"))
    assert sum(p.numel() for p in final.parameters()) == done(output)["achieved"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("--budget.params", "1%"), "cannot be reached: with what may go, this model reaches from"),
        (("--budget.parms", "50%"), "params"),
        (("--teacher", "./nowhere"), "There is no folder './nowhere'"),
        (("--gates.units", "[heads]"), "gates.units='heads' is unknown; choose one of module, head"),
    ],
)
def test_mistakes_are_refused_before_anything_is_trained(
    pruning: Path, tmp_path: Path, overrides, message: str
) -> None:
    result = run_alone(RECIPE, pruning / "prune.yaml", tmp_path / "refused", *overrides)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "refused" / "checkpoints").exists()


def test_pure_distillation_needs_no_transcripts(pruning: Path, tmp_path: Path) -> None:
    speech = tmp_path / "speech" / "train"
    make_split(speech, 8, seed=3)
    rows = (speech / "metadata.csv").read_text().splitlines()
    (speech / "metadata.csv").write_text("\n".join(["file_name", *(row.split(",")[0] for row in rows[1:])]) + "\n")
    output = prune_here(
        pruning, tmp_path / "run", "--data.source", str(tmp_path / "speech"), "--dev_split", "null",
        "--distill.ctc", "0", "--distill.distance", "mse", "--learn.steps", "3", "--recover.steps", "2",
    )  # fmt: skip
    numbers = done(output)
    assert numbers["achieved"] <= numbers["limit"]
    assert numbers["wer"] is None
    assert "loss/ctc" not in (output / "learn" / "metrics.jsonl").read_text()
    assert load_model(str(output / "final")).num_parameters() == numbers["achieved"]


@pytest.mark.parametrize("budget", ["macs", "encoder"])
def test_other_budgets(pruning: Path, tmp_path: Path, budget: str) -> None:
    overrides = {
        "macs": ("--budget.params", "null", "--budget.macs", "60%", "--budget.seconds", "4"),
        "encoder": ("--budget.params", "40%", "--budget.denominator", "encoder", "--gates.units", "[module, ffn_unit]"),
    }[budget]
    output = prune_here(pruning, tmp_path / "run", *overrides, "--learn.steps", "3", "--recover.steps", "1")
    facts = json.loads((output / "final" / "compression.json").read_text())
    assert facts["achieved"] <= facts["limit"] < facts["full"]
    assert facts["requested"] == {"macs": "macs 60% of total at 4 s", "encoder": "params 40% of encoder"}[budget]
    assert facts["metric"] == {"macs": "macs", "encoder": "params"}[budget]


def test_a_compressed_teacher_can_be_compressed_again(pruning: Path, pruned: Path, tmp_path: Path) -> None:
    output = prune_here(
        pruning, tmp_path / "run", "--teacher", str(pruned / "final"), "--budget.params", "80%",
        "--learn.steps", "2", "--recover.steps", "1",
    )  # fmt: skip
    facts = json.loads((output / "final" / "compression.json").read_text())
    assert facts["parameters_before"] == done(pruned)["achieved"]
    assert facts["parameters"] <= 0.8 * facts["parameters_before"]
    assert facts["teacher_compression"]["requested"] == "params 50% of total"
    assert len(load_model(str(output / "final")).config.structure["blocks"]) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("--log_every_steps", "0"), "log_every_steps is 0; give at least 1"),
        (("--learn.warmup_steps", "9"), "warmup_steps is 9; give 0 to 8"),
        (("--recover.steps", "0"), "steps is 0; give at least 1 for a phase"),
        (("--learn.budget_warmup", "3"), "learn.budget_warmup is 3.0; give a share of the phase from 0 to 1"),
    ],
)
def test_senseless_numbers_are_refused(pruning: Path, tmp_path: Path, overrides, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as error:
        prune_here(pruning, tmp_path / "refused", *overrides)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_a_later_phase_may_still_be_changed(pruning: Path, tmp_path: Path) -> None:
    output = prune_here(pruning, tmp_path / "run", "--learn.steps", "2", "--recover.steps", "1")
    (output / "done.json").unlink()
    recipe = load_recipe(RECIPE)
    assert recipe.CHANGEABLE["learn"] == ("recover.*",)
    shutil.rmtree(output / "checkpoints" / "recover")
    prune_here(pruning, output, "--learn.steps", "2", "--recover.steps", "2", "--recover.learning_rate", "1e-4")
    assert done(output)["recover"]["steps"] == 2
    assert done(output)["learn"]["steps"] == 2


def test_layerwise_distillation_alone_on_two_processes(pruning: Path, tmp_path: Path) -> None:
    overrides = (
        "--distill.output", "0", "--distill.ctc", "0", "--distill.blocks", "null", "--distill.inner", "0.5",
        "--distill.blank_neighbours", "1", "--learn.steps", "3", "--recover.steps", "2",
    )  # fmt: skip
    result = run_on_two(RECIPE, pruning / "prune.yaml", tmp_path / "run", *overrides)
    assert result.returncode == 0, result.stderr
    assert done(tmp_path / "run")["achieved"] <= done(tmp_path / "run")["limit"]


@pytest.mark.parametrize(("asked", "written"), [("auto", torch.bfloat16), ("float32", torch.float32)])
def test_models_are_saved_in_the_type_of_the_teacher(
    pruning: Path, tmp_path: Path, asked: str, written: torch.dtype
) -> None:
    teacher = pruning / "teacher" / "best"
    save(load_model(str(teacher)), load_processor(str(teacher)), tmp_path / "teacher", dtype=torch.bfloat16)
    output = prune_here(
        pruning, tmp_path / "run", "--teacher", str(tmp_path / "teacher"), "--structure", "magnitude",
        "--recover.steps", "1", "--dtype", asked,
    )  # fmt: skip
    for name in ("removed", "final"):
        assert stored_dtype(str(output / name)) == written
