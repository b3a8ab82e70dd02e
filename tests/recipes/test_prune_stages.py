"""recipes/prune.py in stages: each leaves a final model within its budget, and a run goes on in its stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from compress.checkpoint import load_config, load_model
from compress.deciding.budget import BudgetConfig, BudgetError
from compress.latency import LatencyProfile, Line, described_model
from compress.profiling import measuring
from compress.training.loop.schedule import LearnConfig, PhaseConfig
from compress.training.stages import shared_out, stages_of
from tests.helpers.launching import done
from tests.helpers.pruning import LEARN, RECOVER, prune_here
from tests.helpers.tiny import parakeet

STAGES = ("--budget.stages", "[75%]")


def logged(output: Path, phase: str) -> list[list[int]]:
    """The steps of a phase that each start of a run has told TensorBoard, one list a start."""
    found = [EventAccumulator(str(file)).Reload() for file in sorted((output / "prune").glob("events*"))]
    name = f"{phase}/loss/total"
    return [[e.step for e in events.Scalars(name)] if name in events.Tags()["scalars"] else [] for events in found]


@pytest.mark.parametrize("more", [(), ("--structure", "obs", "--refit", "null")])
def test_each_stage_keeps_its_budget_and_resumes_exactly(pruning: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    """And its steps go on where those of the stage before ended, in one log."""
    learned = not more
    more = (*STAGES, "--trackers", "[tensorboard]", *more)
    output = prune_here(pruning, tmp_path / "run", *more)
    numbers, stage = done(output), done(output / "stages" / "75")
    assert numbers["stages"] == {"75": stage}
    assert numbers["report"] == ["report.html", "report.md", "report.json"]
    curve = json.loads((output / "report.json").read_text())
    assert [entry["name"] for entry in curve["entries"]] == ["whole", "75%", "50%"]
    assert [load_model(str(output / entry["checkpoint"])).num_parameters() for entry in curve["entries"][1:]] == [
        entry["parameters"] for entry in curve["entries"][1:]
    ]
    assert [entry["wer"] for entry in curve["entries"][1:]] == [stage["wer"]["dev"], numbers["wer"]["dev"]]
    assert (output / "report.html").read_text().count("polyline") == 3
    assert "Each size was trained from the one before it." in (output / "report.md").read_text()
    assert stage["parameters"] <= stage["limit"] == int(0.75 * stage["full"])
    assert numbers["parameters"] <= numbers["limit"] == int(0.5 * stage["full"])
    assert numbers["full"] == stage["full"] == stage["parameters_before"]
    assert load_model(str(output / "stages" / "75" / "final")).num_parameters() == stage["parameters"]
    assert numbers["recover"]["steps"] + stage["recover"]["steps"] == RECOVER
    if learned:
        assert numbers["learn"]["steps"] + stage["learn"]["steps"] == LEARN
    shutil.copytree(output, tmp_path / "resumed")
    (tmp_path / "resumed" / "done.json").unlink()
    for name in ("gated", "removed", "final", "learn", "recover"):
        shutil.rmtree(tmp_path / "resumed" / name, ignore_errors=True)
    for name in ("learn", "recover"):
        shutil.rmtree(tmp_path / "resumed" / "checkpoints" / name, ignore_errors=True)
    resumed = prune_here(pruning, tmp_path / "resumed", *more)
    first, second = (load_model(str(folder / "final")) for folder in (output, resumed))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert logged(resumed, "recover") == ([[5, 6, 11, 12], [11, 12]] if learned else [[1, 2, 3, 4], [3, 4]])
    assert logged(resumed, "learn") == ([[1, 2, 3, 4, 7, 8, 9, 10], [7, 8, 9, 10]] if learned else [[], []])
    told = [yaml.safe_load(file.read_text()) for file in sorted((resumed / "prune").glob("*/hparams.yml"))]
    assert [(of_run["output"], of_run["budget.stages"]) for of_run in told] == [
        (str(output), "['75%']"),
        (str(resumed), "['75%']"),
    ]


def test_a_budget_in_time_is_measured_first_and_kept_on_resumption(
    pruning: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile stands in the folder of the run before anything else, and another start reads it.

    That folder may have been moved since: the profile, and the model with which a stage begins, are the same ones.
    """
    timed: list[str] = []

    def profile(config: measuring.ProfileConfig) -> LatencyProfile:
        timed.append(config.model)
        described = described_model(load_config(config.model))
        conditions = {"seconds": config.speed.seconds, "batch": 1, "threads": 1, "runtime": "torch"}
        lines = {"ffn": Line(1000, 100), "attention": Line(5000, 2000), "conv": Line(9000, 10)}
        return LatencyProfile(described, conditions, 50_000, 300, lines, 8, {})

    monkeypatch.setattr(measuring, "profile", profile)
    words = ("--budget.params", "null", "--budget.latency", "70%", "--budget.stages", "[85%]", "--recover.steps", "2")
    output = prune_here(pruning, tmp_path / "run", *words)
    numbers = done(output)
    assert numbers["achieved"] <= numbers["limit"] < numbers["full"]
    assert numbers["requested"] == "latency 70% at 10 s, batch 1, 1 thread of torch"
    (output / "done.json").unlink()
    moved = prune_here(pruning, output.rename(tmp_path / "moved"), *words)
    assert done(moved)["recover"]["steps"] == 1
    assert len(timed) == 1


@dataclass(frozen=True)
class Staged:
    """What stages are made of, as recipes/prune.py has it."""

    budget: BudgetConfig
    output: str
    learn: LearnConfig = field(default_factory=LearnConfig)
    recover: PhaseConfig = field(default_factory=LearnConfig)
    structure: str = "learned"
    start: str | None = None
    push: None = None
    seed: int = 7


def test_no_phase_of_a_stage_draws_the_batches_of_another(tmp_path: Path) -> None:
    config = Staged(BudgetConfig(params="50%", stages=("75 %", "60%")), str(tmp_path))
    stages = stages_of(config, parakeet().config)
    assert [Path(stage.output) for stage in stages] == [
        tmp_path / "stages" / "75",
        tmp_path / "stages" / "60",
        tmp_path,
    ]
    seeds = [seed for stage in stages for seed in (stage.seed, stage.seed + 1)]  # of learning, and of recovery
    assert len(set(seeds)) == 6
    assert seeds[0] == 7


def test_stages_must_decrease_and_have_steps(pruning: Path, tmp_path: Path) -> None:
    for stages in ("[40%]", "[75%,80%]", "[100%]"):
        with pytest.raises(BudgetError, match="name sizes that decrease from below"):
            prune_here(pruning, tmp_path / "refused", "--budget.stages", stages)
    with pytest.raises(BudgetError, match="Cannot read the budget 'half'"):
        BudgetConfig(params="25%", stages=("half",))
    with pytest.raises(ValueError, match="give at least one for each of the 3 stages"):
        shared_out(LearnConfig(steps=2, warmup_steps=0), 3)
    assert [part.steps for part in shared_out(LearnConfig(steps=8, warmup_steps=5), 3)] == [3, 3, 2]
    assert [part.warmup_steps for part in shared_out(LearnConfig(steps=8, warmup_steps=4), 3)] == [2, 2, 1]
    (tmp_path / "refused" / "stages" / "60").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"holds other stages; budget.stages is \['75%'\]"):
        prune_here(pruning, tmp_path / "refused", *STAGES)
    assert not (tmp_path / "refused" / "checkpoints").exists()


def test_a_stage_that_is_small_enough_already_is_no_end(pruning: Path, tmp_path: Path) -> None:
    """Its weights are not refitted again, and the teacher of the report is the one of the checkpoint."""
    more = ("--structure", "obs", "--budget.stages", "[50.1%]", "--recover.steps", "2", "--teacher_dtype", "bfloat16")
    output = prune_here(pruning, tmp_path / "run", *more)
    stage, numbers = done(output / "stages" / "50.1"), done(output)
    assert stage["achieved"] <= numbers["limit"] < stage["limit"]
    assert numbers["parameters"] == stage["parameters"]
    folders = (output / "stages" / "50.1" / "final", output / "removed")
    before, after = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert len(json.loads((output / "report.json").read_text())["entries"]) == 3


def test_rounds_go_with_one_decision_by_scores_or_weights(
    pruning: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "structure.json"
    file.write_text("{}")
    for more in (
        ("--structure", "obs", *STAGES),
        ("--structure", "learned"),
        ("--structure", str(file), "--budget", "null"),
    ):
        with pytest.raises(SystemExit):
            prune_here(pruning, tmp_path / "run", "--rounds", "[60%]", *more)
        assert "rounds is ['60%']: they are sizes on the way of one decision" in " ".join(
            capsys.readouterr().err.split()
        )
    assert not (tmp_path / "run").exists()
