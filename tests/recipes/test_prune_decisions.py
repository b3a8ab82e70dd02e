"""recipes/prune.py without gates: what stays is chosen by a rule, by a file, or by a search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import compress
from compress.checkpoint import load_config, load_model, load_processor, save
from compress.cli import main
from compress.conformers import block_units, blocks_of
from compress.elastic import make_elastic
from compress.running.subnets import OWN, subnet_names
from compress.structure import Block, Structure
from tests.helpers.launching import (
    done,
    metrics,
)
from tests.helpers.pruning import prune_here

BRIEFLY = ("--recover.steps", "2", "--refit", "null")


@pytest.mark.parametrize("decision", ["obs", "fisher", "variance", "magnitude"])
def test_what_is_left_is_refitted(pruning: Path, tmp_path: Path, decision: str) -> None:
    """`removed/` gives nearer to what the teacher gives than removal alone would."""
    output = prune_here(pruning, tmp_path / "run", "--structure", decision, "--recover.steps", "1")
    facts = json.loads((output / "removed" / "compression.json").read_text())
    assert done(output)["achieved"] <= done(output)["limit"]
    assert len(facts["rounds"]) == (1 if decision == "magnitude" else 2)
    for entry in facts["rounds"]:
        assert entry["repair"]["error_after"] < entry["repair"]["error_before"]
    teacher, small = load_model(str(pruning / "teacher" / "best")), load_model(str(output / "removed"))
    plain = compress.remove(teacher, Structure.load(output / "removed" / "structure.json"))
    features = torch.randn(1, 80, 80, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(small(features).logits, plain(features).logits, atol=1e-4)


def test_gates_can_start_from_scores(pruning: Path, tmp_path: Path) -> None:
    """The expected size is the budget from the first step; in front of the blocks, and with a refit, too."""
    more = ("--gates.start", "obs", "--learn.steps", "2", "--recover.steps", "1", "--refit.after_gates")
    more += ("--budget.front", "true", "--budget.round_to", "2")
    output = prune_here(pruning, tmp_path / "run", *more)
    assert metrics(output / "learn", "size/target") == pytest.approx([0.5, 0.5], abs=1e-4)
    assert metrics(output / "learn", "size/expected")[0] == pytest.approx(0.5, abs=0.05)
    facts = json.loads((output / "removed" / "compression.json").read_text())
    assert facts["repair"]["error_after"] < facts["repair"]["error_before"]
    assert all(0 < share <= 1 for share in metrics(output / "learn", "gates/open/front_channel"))


@pytest.mark.parametrize("decision", ["learned", "obs"])
def test_an_elastic_teacher_is_pruned_as_its_full_size(pruning: Path, tmp_path: Path, decision: str) -> None:
    """Scores are of the right units, though it has them in another order, and no result has its sizes."""
    plain = pruning / "teacher" / "best"
    units = block_units(load_model(str(plain)))[0]["ffn1"]
    half = Structure("parakeet", (Block(ffn1=tuple(range(units // 2, units)), attention=(1,)), None))
    made = make_elastic(load_model(str(plain)), {"half": half}, OWN)
    save(made, load_processor(str(plain)), tmp_path / "elastic")
    more = ("--structure", decision, "--gates.start", "obs", "--learn.steps", "2", "--recover.steps", "1")
    one, other = (
        prune_here(pruning, tmp_path / name, "--teacher", str(teacher), *more)
        for name, teacher in (("one", plain), ("other", tmp_path / "elastic"))
    )
    for output in (one, other):
        for name in ("removed", "final", *(("gated",) if decision == "learned" else ())):
            assert subnet_names(load_model(str(output / name))) == ["2"]
    first, second = (load_config(str(output / "removed")) for output in (one, other))
    assert first.structure == second.structure


@pytest.mark.parametrize("method", ["magnitude", "proportional", "uniform", "fresh"])
def test_what_stays_can_be_chosen_without_learning(pruning: Path, tmp_path: Path, method: str) -> None:
    fresh = ("--fresh_weights", "true") if method == "fresh" else ()
    structure = "proportional" if fresh else method
    output = prune_here(pruning, tmp_path / "run", "--structure", structure, *BRIEFLY, *fresh)
    assert done(output)["structure"] == structure
    assert done(output)["parameters"] == done(output)["achieved"] <= done(output)["limit"]
    assert done(output)["recover"]["steps"] == 2
    assert done(output)["route"] == ("stock" if method == "uniform" else "code")
    assert not (output / "learn").exists()
    assert "expected at the end" not in (output / "final" / "README.md").read_text()
    teacher, small = load_model(str(pruning / "teacher" / "best")), load_model(str(output / "removed"))
    applied = compress.remove(teacher, Structure.load(output / "removed" / "structure.json"))
    same = [torch.equal(mine, theirs) for mine, theirs in zip(small.parameters(), applied.parameters(), strict=True)]
    assert not all(same) if fresh else all(same)
    weights, drawn = small.encoder.layers[0].norm_out.weight, small.encoder.layers[0].feed_forward1.linear1.weight
    assert torch.equal(weights, torch.ones_like(weights)) or not fresh
    assert drawn.abs().max() > 0.1 or not fresh


def test_what_stays_can_be_a_file(pruning: Path, pruned: Path, tmp_path: Path) -> None:
    file = pruned / "removed" / "structure.json"
    output = prune_here(pruning, tmp_path / "run", "--structure", str(file), "--budget", "null", *BRIEFLY)
    assert done(output)["structure"] == str(file)
    assert done(output)["parameters"] == done(pruned)["parameters"]
    assert Structure.load(output / "final" / "structure.json") == Structure.load(file)


def test_what_stays_can_be_what_a_search_found(pruning: Path, tmp_path: Path) -> None:
    """`compress search`, then mask-free distillation from the teacher without the block."""
    teacher, search = pruning / "teacher" / "best", tmp_path / "search"
    words = ["--data", str(pruning / "speech"), "--data.cache_dir", str(pruning / "cache"), "--batch.workers", "0"]
    assert main(["search", str(teacher), *words, "--remove", "1", "--jobs", "1", "--out", str(search)]) == 0
    given = ("--structure", str(search / "structure.json"), "--budget", "null", *BRIEFLY)
    output = prune_here(pruning, tmp_path / "run", *given)
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
        (("--budget", "null"), "learned, fisher, obs, variance, magnitude, proportional, uniform need a budget"),
        (("--fresh_weights", "true"), "fresh_weights needs another structure"),
        (("--rounds", "[75%]"), "they are sizes on the way of one decision"),
    ],
)
def test_structure_and_budget_must_go_together(pruning: Path, tmp_path: Path, overrides, message: str, capsys) -> None:
    with pytest.raises(SystemExit) as error:
        prune_here(pruning, tmp_path / "refused", *overrides)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
