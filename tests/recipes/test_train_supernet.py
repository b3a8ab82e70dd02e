"""recipes/train_supernet.py: both stages on tiny models, resumed exactly in both, on two processes, refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compress.checkpoint import load_model, load_processor, save
from compress.elastic import standalone
from compress.model.able_to_skip import able_to_skip
from compress.running.skipping import Skipping
from compress.structure import Structure
from tests.helpers.jobs import JOINT_STEPS, SELECT_STEPS
from tests.helpers.launching import (
    done,
    metrics,
    run_here,
)
from tests.helpers.tiny import SETTINGS

RECIPE = "recipes/train_supernet.py"


@pytest.fixture
def config(configs: Callable[[str], Path]) -> Path:
    return configs("supernet")


@pytest.fixture
def finished(runs: Callable[[str], Path]) -> Path:
    return runs("supernet")


def result_of(output: Path) -> dict[str, Any]:
    """What supernet.json says, but for the time when it was written."""
    result: dict[str, Any] = json.loads((output / "supernet.json").read_text())
    assert result.pop("created")
    return result


def weights(output: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(output / name / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(second[key], tensor) for key, tensor in first.items())


def with_model(config: Path, folder: Path, **model: Any) -> Path:
    """The config with another model."""
    text, path = config.read_text(), folder / "other.yaml"
    path.write_text(text[: text.index("model:")] + f"model: {json.dumps(model)}\n" + text[text.index("data:") :])
    return path


def test_both_stages_leave_everything(finished: Path) -> None:
    numbers = done(finished)
    assert list(numbers["sizes"]) == ["2", "5", "8"]
    assert [one["parts"] for one in numbers["sizes"].values()] == [2, 5, 8]
    assert [numbers[stage]["steps"] for stage in ("select", "joint")] == [SELECT_STEPS, JOINT_STEPS]
    assert len(metrics(finished / "select", "loss/ctc/sub")) == SELECT_STEPS
    assert [len(metrics(finished / "joint", f"loss/ctc/{size}")) for size in ("smallest", "middle")] == [
        JOINT_STEPS
    ] * 2
    assert numbers["best_dev_wer"] == min(metrics(finished / "joint", "dev/wer/mean"))
    assert metrics(finished / "joint", "dev/wer") == metrics(finished / "joint", "dev/wer/8")
    assert len(metrics(finished / "joint", "dev/wer/5")) == JOINT_STEPS // 2
    assert metrics(finished / "select", "parts/kept")[0] == 8
    assert metrics(finished / "select", "learning_rate")[-1] > metrics(finished / "joint", "learning_rate")[-1]


def test_its_model_runs_at_every_size_as_the_standalone_one_does(finished: Path) -> None:
    model = load_model(str(finished / "best"))
    assert model.config.vocab_size == len(load_processor(str(finished / "best")).tokenizer)
    features, logits = torch.randn(2, 64, model.config.encoder_config.num_mel_bins), []
    with torch.no_grad():
        for name, entry in done(finished)["sizes"].items():
            model.activate(name)
            logits.append(model(features).logits)
            small = standalone(model, name)
            assert torch.allclose(small(features).logits, logits[-1], atol=1e-5)
            assert small.num_parameters() == entry["parameters"]
    assert not torch.allclose(logits[0], logits[-1], atol=1e-3)


def test_the_decision_is_written_down(finished: Path) -> None:
    result = result_of(finished)
    assert sorted(result["ranking"]) == list(range(8))
    gone = [span for spans in result["spans"] for span in spans if span[1] < SELECT_STEPS]
    assert len(result["parts"]) == len(result["spans"]) == 8
    assert sum(bool(spans) and spans[-1][1] == SELECT_STEPS for spans in result["spans"]) == 2
    assert len(gone) >= 6
    for one in result["sizes"]:
        structure = Structure.load(finished / "structures" / f"{one['size']}.json")
        assert structure == Structure.from_dict(one["structure"])
        assert sum(kept is not None for block in structure.blocks if block for _, kept in block.items()) == one["parts"]
        assert one["wer"] == done(finished)["sizes"][one["size"]]["wer"]
    history = json.loads((finished / "history.json").read_text())
    assert history["parts"] == result["parts"]
    assert [history["kept"]] == [sorted(result["ranking"][:2])]
    assert sum(len(change["left"]) - len(change["back"]) for change in history["changes"]) == 6
    assert all(one["wer_ci95"][0] <= one["wer"] <= one["wer_ci95"][1] for one in result["sizes"])
    assert result["data"]["split"] == "dev"
    assert load_model(str(finished / "best")).config.trained_seconds > 0
    page = (finished / "supernet.html").read_text()
    assert "Word error rate over size" in page
    assert page.count("kept in steps") >= 8
    assert "blocks.1.conv" in page
    assert "achieved size count parts;" in page
    text = (finished / "supernet.md").read_text()
    assert "keeps 2 of 8 parts" in text
    assert f"- Selection: {result['method']}, {result['steps']:,} steps" in text
    assert f"- Costs: count {result['counted']}" in text
    assert "recipes/train_supernet.py</title>" in page


def test_started_again_after_the_decision_it_goes_on_with_it(config: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    (output / "done.json").unlink()
    for name in ("last", "best", "joint", "checkpoints/joint"):
        shutil.rmtree(output / name)
    run_here(RECIPE, config, output)
    assert same(finished, output)


@pytest.mark.parametrize(
    "overrides",
    [
        ["--selection.method", "zero_out", "--selection.zero_out.iterations", "3", "--parts.granularity", "component"],
        ["--selection.method", "ortho_softmax", "--joint.heads", "shared", "--joint.norms", "shared"],
        ["--selection.method", "every_other_block", "--joint.distill", "0.5"],
        ["--selection.method", "random", "--sizes.parts", "null", "--sizes.params", "[100%,85%,70%]"],
    ],
    ids=["zero_out", "ortho_softmax", "every_other_block", "random"],
)
def test_other_selections_and_options(config: Path, tmp_path: Path, overrides: list[str]) -> None:
    output = run_here(RECIPE, config, tmp_path / "run", "--max_steps", "5", *overrides)
    losses = {"zero_out": "sparsity", "ortho_softmax": "orthogonality"}
    method = overrides[1]
    if method in losses:
        assert len(metrics(output / "select", f"loss/{losses[method]}")) == 3
    if method == "every_other_block":
        assert min(metrics(output / "joint", "loss/distill")) > 0
    heads = sum("ctc_head" in name and name.endswith("weight") for name in weights(output))
    assert heads == (1 if method == "ortho_softmax" else len(result_of(output)["sizes"]))
    if method == "random":
        assert all(one["achieved"] <= (one["limit"] or one["achieved"]) for one in result_of(output)["sizes"])


@pytest.mark.parametrize("method", ["zero_out", "ortho_softmax", "fisher"])
def test_the_other_selections_resume_exactly(config: Path, tmp_path: Path, method: str) -> None:
    """At a checkpoint after the last cut of zero_out, the scores before which are needed at the end."""
    options = ["--selection.method", method, "--selection.zero_out.iterations", "4", "--checkpoint_every_steps", "1"]
    options += ["--selection.learning_rate", "0.5"]
    whole, again = (run_here(RECIPE, config, tmp_path / "whole", *options), tmp_path / "again")
    shutil.copytree(whole, again)
    (again / "done.json").unlink()
    shutil.rmtree(again / "checkpoints" / "select" / f"step-{SELECT_STEPS:08d}")
    for name in ("last", "best", "selected", "joint", "checkpoints/joint"):
        shutil.rmtree(again / name)
    run_here(RECIPE, config, again, *options)
    assert same(whole, again)
    assert result_of(again) == result_of(whole)


def test_made_anew_a_decision_keeps_the_rates_of_the_best_model(config: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    (output / "done.json").unlink()
    shutil.rmtree(output / "selected")
    run_here(RECIPE, config, output)
    assert result_of(output) == result_of(finished)
    assert done(output)["sizes"] == done(finished)["sizes"]


@pytest.mark.parametrize("family", ["wav2vec2_conformer", "granite_speech5"])
def test_other_families_train(config: Path, tmp_path: Path, family: str) -> None:
    path = with_model(config, tmp_path, family=family, settings=SETTINGS[family])
    parts = ["--sizes.parts", "[3,1]", "--max_steps", "3", "--evaluate_every_steps", "9"]
    output = run_here(RECIPE, path, tmp_path / "run", *parts)
    assert next(iter(done(output)["sizes"])) == "1"
    assert load_model(str(output / "best")).sizes.keys() == done(output)["sizes"].keys()


def test_a_checkpoint_becomes_a_supernet(config: Path, finished: Path, tmp_path: Path) -> None:
    path = with_model(config, tmp_path, checkpoint=str(finished / "best"))
    options = ("--max_steps", "4", "--sizes.parts", "[4,2]", "--evaluate_every_steps", "1")
    output = run_here(RECIPE, path, tmp_path / "run", *options)
    assert list(load_model(str(output / "last")).sizes) == ["2", "4", "8"]
    assert len(metrics(output / "select", "dev/wer")) == 1
    assert not metrics(output / "select", "dev/wer/2")  # the sizes that the checkpoint had are not trained
    assert type(load_model(str(output / "selected"))).__name__ == "ParakeetForCTC"


def test_a_checkpoint_that_skips_is_refused(config: Path, finished: Path, tmp_path: Path) -> None:
    elastic = load_model(str(finished / "best"))
    save(
        able_to_skip(elastic, Skipping(first_blocks=1, heads=(1,))),
        load_processor(str(finished / "best")),
        tmp_path / "skips",
    )
    path = with_model(config, tmp_path, checkpoint=str(tmp_path / "skips"))
    with pytest.raises(ValueError, match="skips can skip frames, which would be unlearned here"):
        run_here(RECIPE, path, tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--sizes.parts", "[2,5]"], "sizes.parts must decrease, largest first; got 2, 5"),
        (["--sizes.parts", "null", "--sizes.params", "[1%]"], "The size 1% in sizes.params is .* cannot be reached"),
        (
            ["--sizes.parts", "[7,6,5,4,3,2,1,0]"],
            "9 sizes in sizes.parts need at least as many parts, but .* has 8",
        ),
        (["--max_steps", "1"], "leaves 1 and 0 for the two stages"),
    ],
)
def test_impossible_runs_are_refused(config: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_here(RECIPE, config, tmp_path / "run", *overrides)


def test_blocks_are_not_computed_twice(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_here(RECIPE, config, tmp_path / "run", "--gradient_checkpointing", "true")
    assert "gradient_checkpointing is True; a step runs at several sizes" in capsys.readouterr().err


def test_settings_of_a_stage_that_has_begun_cannot_change(config: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    (output / "done.json").unlink()
    with pytest.raises(ValueError, match=r"joint.distill was 0.0, is 0.5"):
        run_here(RECIPE, config, output, "--joint.distill", "0.5")
    with pytest.raises(ValueError, match=r"selection.sub was None, is 0.1"):
        run_here(RECIPE, config, output, "--selection.sub", "0.1")


def test_another_supernet_does_not_begin_with_what_an_earlier_one_selected(
    config: Path, finished: Path, tmp_path: Path
) -> None:
    """Where its first stage has ended, and a stop came before the first checkpoint of the second."""
    output = tmp_path / "run"
    for name in ("selected", "structures", "processor"):
        shutil.copytree(finished / name, output / name)
    shutil.copy(finished / "config.json", output)
    settings = (output / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"selected holds a run with other settings: .*seed was 0, is 7"):
        run_here(RECIPE, config, output, "--seed", "7")
    assert (output / "config.json").read_bytes() == settings
