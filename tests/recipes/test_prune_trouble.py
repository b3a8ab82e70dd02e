"""recipes/prune.py in trouble: corrupt checkpoints and models, numbers that are not finite, a full disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from compress.data import Batch
from compress.running.skipping import SkippingError
from compress.training.loop.finite import NotFiniteError
from compress.training.student import GatedStudent
from tests.helpers.launching import (
    done,
    metrics,
    run_alone,
)
from tests.helpers.pruning import LEARN, RECIPE, RECOVER, prune_here
from tools.kill_and_resume import differences

SMALL_MIB = 4


def half_done(pruned: Path, output: Path) -> Path:
    """A run that was killed in its last phase."""
    shutil.copytree(pruned, output)
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
    pruning: Path, pruned: Path, tmp_path: Path, capsys, file: str, damage
) -> None:
    output = half_done(pruned, tmp_path / "run")
    newest = output / "checkpoints" / "recover" / f"step-{RECOVER - 1:08d}"
    damage(newest / file)
    prune_here(pruning, output, "--trackers", "[tensorboard]")
    log = capsys.readouterr().err
    assert f"{newest} is damaged ({file}" in log
    assert "is passed over" in log
    assert list(differences(pruned, output)) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: truncate(folder / "model.safetensors"), "cannot be loaded"),
        (lambda folder: save_file({"x": torch.zeros(2)}, folder / "model.safetensors"), "missing keys: "),
        (lambda folder: edit(folder / "config.json", '"blocks": [', '"blocks": [7, '), r"blocks\[0\] must be null or"),
        (lambda folder: (folder / "config.json").write_text("{"), "is no JSON: line 1"),
    ],
    ids=["truncated", "wrong keys", "edited JSON", "broken JSON"],
)
def test_a_corrupt_model_is_named_left_alone_and_made_anew_once_deleted(
    pruning: Path, pruned: Path, tmp_path: Path, damage, message: str
) -> None:
    output = half_done(pruned, tmp_path / "run")
    removed, final = output / "removed", (output / "final" / "model.safetensors").read_bytes()
    damage(removed)
    before = {path.name: path.read_bytes() for path in removed.iterdir()}
    with pytest.raises(ValueError, match=message) as error:
        prune_here(pruning, output)
    assert f"Delete {removed} and run the same command again" in str(error.value)
    assert {path.name: path.read_bytes() for path in removed.iterdir()} == before
    assert (output / "final" / "model.safetensors").read_bytes() == final
    shutil.rmtree(removed)
    prune_here(pruning, output)
    assert list(differences(pruned, output)) == []


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


def test_a_nan_is_named_and_skipped(pruning: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    spoil(monkeypatch, "20.wav")
    output = prune_here(pruning, tmp_path / "run")
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


def test_at_the_limit_of_nans_the_run_stops_and_keeps_what_it_has(pruning: Path, tmp_path: Path, monkeypatch) -> None:
    spoil(monkeypatch, "20.wav")
    output = tmp_path / "run"
    with pytest.raises(
        NotFiniteError, match=r"20\.wav.*1 steps were skipped, the limit \(max_skipped_steps\)"
    ) as error:
        prune_here(pruning, output, "--max_skipped_steps", "1")
    failed = int(str(error.value).split()[1])
    assert not (output / "gated").exists()
    monkeypatch.undo()
    kept = sorted(path.name for path in (output / "checkpoints" / "learn").iterdir()) if failed else []
    assert kept == [f"step-{step:08d}" for step in range(1, failed + 1)]
    prune_here(pruning, output, "--max_skipped_steps", "2")
    assert done(output)["learn"]["skipped_steps"] == 0


def test_a_gate_that_is_spoilt_is_named_and_never_written(pruning: Path, tmp_path: Path, monkeypatch) -> None:
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
        prune_here(pruning, output)
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


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(pruning: Path, pruned: Path, small_disk: Path) -> None:
    output = small_disk / "run"
    result = run_alone(RECIPE, pruning / "prune.yaml", output)
    assert result.returncode == 2
    assert f"Could not write {output}" in result.stderr
    assert "No space left on device" in result.stderr
    assert "0 MiB are free there. Free some space and run the same command again" in result.stderr
    assert "Traceback" not in result.stderr
    kept = sorted((output / "checkpoints" / "learn").iterdir())
    assert kept
    assert all(path.name.startswith("step-") and not path.name.endswith(".partial") for path in kept)
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    result = run_alone(RECIPE, pruning / "prune.yaml", output)
    assert result.returncode == 0, result.stderr
    assert "passed over" not in result.stderr
    assert list(differences(pruned, output)) == []


def test_skipping_that_a_start_cannot_learn_is_refused(pruning: Path, pruned: Path, tmp_path: Path) -> None:
    more = ("--start", str(pruned / "final"), "--budget.params", "40%", "--skipping.first_blocks", "[1]")
    with pytest.raises(SkippingError, match=r"start, .*final, cannot skip"):
        prune_here(pruning, tmp_path / "run", *more)


def test_a_model_that_another_start_has_left_is_not_gone_on_from_with_other_settings(
    pruning: Path, pruned: Path, tmp_path: Path
) -> None:
    """Not even before recovery has a checkpoint of its own; what only recovery reads may still change."""
    output = tmp_path / "run"
    shutil.copytree(pruned, output)
    (output / "done.json").unlink()
    shutil.rmtree(output / "checkpoints")
    settings = (output / "config.json").read_bytes()
    for more in (("--budget.params", "40%"), ("--structure", "obs", "--refit.ridge", "0.1")):
        with pytest.raises(
            ValueError, match=r"removed holds a run with other settings: .*(budget.params was|structure was)"
        ):
            prune_here(pruning, output, *more)
    assert (output / "config.json").read_bytes() == settings
    prune_here(pruning, output, "--recover.steps", "1")
    assert done(output)["achieved"] == done(pruned)["achieved"]
