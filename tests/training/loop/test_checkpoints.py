from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compress.checkpoint import CheckpointError
from compress.files.writing import WriteError
from compress.training.loop.best import Best
from compress.training.loop.checkpoints import Checkpoints, fingerprint, signed
from compress.training.loop.same_run import SettingsChangedError
from tests.helpers import forked


def make_model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model(torch.randn(5, 3)).pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """A run with checkpoints of steps 1 to 3, of which two are kept."""
    torch.manual_seed(0)
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2, settings={"optimizer": {"learning_rate": 0.1}})
    for step in (1, 2, 3):
        train(model, optimizer)
        checkpoints.save(
            step, {"best": Best(0.5, step), "extra": {"multipliers": torch.ones(2) * step}}, model, optimizer
        )
    return checkpoints


def restore(checkpoints: Checkpoints) -> tuple[Any, nn.Module, Best]:
    model, best = make_model(), Best()
    optimizer = torch.optim.AdamW(model.parameters())
    return checkpoints.restore({"best": best}, model, optimizer), model, best


def test_keeps_the_newest_and_gives_back_everything(saved: Checkpoints) -> None:
    assert sorted(path.name for path in saved.directory.iterdir()) == ["step-00000002", "step-00000003"]
    restored, model, best = restore(saved)
    assert restored.step == 3
    assert best == Best(0.5, 3)
    assert restored.states["extra"]["multipliers"].tolist() == [3.0, 3.0]
    assert model[1].num_batches_tracked == 3


def test_holds_no_pickled_code(saved: Checkpoints) -> None:
    loaded = {path.name: torch.load(path, weights_only=True) for path in saved.latest().glob("*.pt")}
    assert loaded.keys() == {"optimizer.pt", "states.pt", "random-0.pt"}
    assert all(isinstance(content, dict) for content in loaded.values())


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    import random

    import numpy as np

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(1))

    model, checkpoints = make_model(), Checkpoints(tmp_path)
    checkpoints.save(0, {}, model)
    expected = draw()
    draw()
    checkpoints.restore({}, model)
    assert draw() == expected


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "manifest"])
def test_a_damaged_checkpoint_is_passed_over(saved: Checkpoints, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    newest = saved.directory / "step-00000003"
    weights = newest / "model.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif damage == "flip":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "delete":
        (newest / "optimizer.pt").unlink()
    else:
        (newest / "checkpoint.json").write_text('{"files": {')
    fresh = Checkpoints(saved.directory, settings=saved.settings)
    restored, _, _ = restore(fresh)
    assert restored.step == 2
    assert "step-00000003 is damaged" in caplog.text


def test_a_half_written_folder_is_never_taken(saved: Checkpoints) -> None:
    (saved.directory / "step-00000009.partial").mkdir()
    assert saved.latest() == saved.directory / "step-00000003"


def test_nothing_saved_restores_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none")
    assert checkpoints.latest() is None
    assert restore(checkpoints)[0] is None


def test_other_settings_are_refused_by_name(saved: Checkpoints) -> None:
    other = Checkpoints(saved.directory, settings={"optimizer": {"learning_rate": 0.2}, "seed": 1})
    with pytest.raises(
        SettingsChangedError, match=r"optimizer.learning_rate was 0.1, is 0.2; seed was '\(absent\)', is 1"
    ):
        other.check_settings()


def test_harmless_settings_may_change(saved: Checkpoints) -> None:
    other = Checkpoints(
        saved.directory, settings={"optimizer": {"learning_rate": 0.2}}, harmless=("optimizer.*",), keep=1
    )
    assert restore(other)[0].step == 3


def test_case_26_another_number_of_processes_is_refused(saved: Checkpoints) -> None:
    path = saved.latest() / "checkpoint.json"
    manifest = json.loads(path.read_text())
    (path.parent / "random-1.pt").write_bytes((path.parent / "random-0.pt").read_bytes())
    files = manifest["files"] | {"random-1.pt": manifest["files"]["random-0.pt"]}
    path.write_text(json.dumps(signed(manifest | {"processes": 2, "files": files})))
    with pytest.raises(CheckpointError, match=r"2 process\(es\), and this run has 1"):
        restore(saved)


def test_weights_of_another_model_are_refused(saved: Checkpoints) -> None:
    with pytest.raises(CheckpointError, match="do not fit the model"):
        saved.restore({}, nn.Linear(3, 4))


def test_an_unknown_state_is_refused(saved: Checkpoints) -> None:
    with pytest.raises(CheckpointError, match="no state"):
        saved.restore({"gates": Best()}, make_model())


@pytest.mark.parametrize("writer", ["torch.save", "compress.training.loop.checkpoints.save_weights"])
def test_a_failed_write_leaves_the_last_good_one(
    saved: Checkpoints, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, full)
    with pytest.raises(WriteError, match=r"step-00000004 .*No space left on device.*MiB are free.*step-00000003"):
        saved.save(4, {}, make_model())
    assert sorted(path.name for path in saved.directory.iterdir()) == ["step-00000002", "step-00000003"]


FILL = """
import resource, sys
from torch import nn
from compress.files.writing import WriteError
from compress.training.loop.checkpoints import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, {}, nn.Linear(2, 2))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoints.save(2, {}, nn.Linear(400, 400))
except WriteError as error:
    print(error)
    print("left:", checkpoints.latest().name, len(list(checkpoints.directory.iterdir())))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_write_that_really_fails(tmp_path: Path) -> None:
    done = forked.run(["-c", FILL, str(tmp_path)])
    assert "step-00000002 (" in done.stdout, done.stderr
    assert "MiB are free there. Free some space" in done.stdout
    assert "left: step-00000001 1" in done.stdout


ENDLESS = """
import itertools, sys
from torch import nn
from compress.training.loop.checkpoints import Checkpoints
checkpoints, model = Checkpoints(sys.argv[1]), nn.Linear(500, 500)
for step in itertools.count(1):
    checkpoints.save(step, {}, model)
"""


def test_a_killed_process_leaves_no_torn_checkpoint(tmp_path: Path) -> None:
    program = forked.Program(["-c", ENDLESS, str(tmp_path)])
    while not (written := sorted(path.name for path in tmp_path.glob("step-*[0-9]"))) or written[-1] < "step-00000005":
        assert program.is_running
        time.sleep(0.001)
    program.kill()
    restored = Checkpoints(tmp_path).restore({}, nn.Linear(500, 500))
    assert restored is not None
    assert restored.step >= 5


def test_a_checkpoint_of_another_version_is_refused(saved: Checkpoints) -> None:
    """Its states might go back into the wrong places; that a run has ended can still be told without them."""
    manifest = saved.directory / "step-00000003" / "checkpoint.json"
    manifest.write_text(manifest.read_text().replace('"format": 4', '"format": 3'))
    saved.check_settings()
    with pytest.raises(CheckpointError, match=r"format 3, .* format 4 only: finish the run with the version that"):
        restore(saved)


def resigned(folder: Path, **changes: Any) -> None:
    """Gives a checkpoint the checksums that it would have if it had been written so."""
    path = folder / "checkpoint.json"
    manifest = json.loads(path.read_text()) | changes
    files = {name: fingerprint(folder / name) for name in manifest["files"]}
    path.write_text(json.dumps(signed(manifest | {"files": files})))


FORMS: dict[str, Any] = {
    "empty states": lambda folder: torch.save({}, folder / "states.pt"),
    "empty state": lambda folder: torch.save({"best": {}, "extra": {}}, folder / "states.pt"),
    "list": lambda folder: torch.save([1], folder / "optimizer.pt"),
    "exchanged": lambda folder: (folder / "optimizer.pt").write_bytes((folder / "states.pt").read_bytes()),
    "truncated": lambda folder: (folder / "states.pt").write_bytes((folder / "states.pt").read_bytes()[:50]),
    "random": lambda folder: torch.save({"python": [3, [], None]}, folder / "random-0.pt"),
    "random tensor": lambda folder: torch.save(
        torch.load(folder / "random-0.pt") | {"torch": torch.ones(3)}, folder / "random-0.pt"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_has_the_right_checksum_but_another_form_is_passed_over(
    saved: Checkpoints, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    newest = saved.directory / "step-00000003"
    FORMS[form](newest)
    resigned(newest)
    restored, model, best = restore(Checkpoints(saved.directory, settings=saved.settings))
    assert (restored.step, best, int(model[1].num_batches_tracked)) == (2, Best(0.5, 2), 2)
    assert "step-00000003" in caplog.text
    assert "passed over" in caplog.text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", 10**9),
        ("step", None),
        ("processes", 0),
        ("settings", None),
        ("files", {}),
        ("format", "3"),
        ("crc32", 1),
    ],
)
def test_a_manifest_that_was_changed_is_passed_over(saved: Checkpoints, key: str, value: Any) -> None:
    path = saved.directory / "step-00000003" / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert restore(Checkpoints(saved.directory, settings=saved.settings))[0].step == 2


def test_if_no_checkpoint_can_be_gone_on_from_none_is_begun_anew(saved: Checkpoints) -> None:
    for step in (2, 3):
        torch.save({}, saved.directory / f"step-0000000{step}" / "states.pt")
        resigned(saved.directory / f"step-0000000{step}")
    with pytest.raises(
        CheckpointError, match=r"holds no state \['best'\].*No other checkpoint in .* can be gone on from"
    ):
        restore(Checkpoints(saved.directory, settings=saved.settings))
