from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from compress.training.loop import progress as progress_module
from compress.training.loop.losses import Losses
from compress.training.loop.progress import METRICS_FILE, Progress


def ctc(loss: float) -> Losses:
    return Losses.summed({"ctc": torch.tensor(loss)})


def read(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]


def test_losses_are_averaged_and_logged_with_the_time_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = Progress(4, description="train", directory=tmp_path, log_every=2)
    with progress.running():
        for step, loss in enumerate([1.0, 3.0, 5.0, 7.0], start=1):
            progress.advance(step, ctc(loss), lambda: {"learning_rate": 0.1})
    assert [line["loss/ctc"] for line in read(tmp_path)] == [2.0, 6.0]
    assert [line["step"] for line in read(tmp_path)] == [2, 4]
    assert "train 2/4  loss 2  left 0:00:0" in caplog.text


def test_what_only_some_steps_have_is_averaged_over_these(tmp_path: Path) -> None:
    progress = Progress(4, description="train", directory=tmp_path, log_every=4)
    with progress.running():
        for step in range(1, 5):
            progress.advance(step, ctc(1.0) if step % 2 else Losses.summed({"skipped_ctc": torch.tensor(3.0)}))
    assert [(line["loss/ctc"], line["loss/skipped_ctc"]) for line in read(tmp_path)] == [(1.0, 3.0)]


def test_waiting_is_measured_and_pauses_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited = [0.0], [0.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now[0])
    progress = Progress(2, description="train", waited=lambda: waited[0], log_every=1)
    with progress.running():
        now[0], waited[0] = 4.0, 1.0
        progress.advance(1, None)
        with progress.pause():
            now[0], waited[0] = 100.0, 50.0
        now[0], waited[0] = 104.0, 51.0
        progress.advance(2, None)
    assert progress.seconds == 8.0
    assert progress.wait_share == pytest.approx(0.25)
    resumed = Progress(2, description="train")
    resumed.load_state_dict(progress.state_dict())
    assert resumed.seconds == 8.0


def test_a_resumed_run_drops_what_was_not_checkpointed(tmp_path: Path) -> None:
    first = Progress(9, description="train", directory=tmp_path, log_every=1)
    with first.running():
        for step in (1, 2, 3):
            first.advance(step, ctc(1.0))
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 4, "lo')
    second = Progress(9, description="train", directory=tmp_path, log_every=1)
    with second.running(start_step=2):
        second.advance(3, ctc(2.0))
    assert [(line["step"], line["loss/ctc"]) for line in read(tmp_path)] == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_losses_since_the_last_report_survive_an_interruption(tmp_path: Path) -> None:
    """A checkpoint between two reports: the next average is over all steps since the last report."""
    first = Progress(4, description="train", directory=tmp_path, log_every=4)
    with first.running():
        first.advance(1, ctc(1.0))
        first.advance(2, ctc(2.0))
        state = first.state_dict()
    torch.save(state, tmp_path / "state.pt")
    resumed = Progress(4, description="train", directory=tmp_path, log_every=4)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with resumed.running(2):
        resumed.advance(3, ctc(6.0))
        resumed.advance(4, None)  # a step that was skipped
    assert [line["loss/ctc"] for line in read(tmp_path)] == [3.0]


def test_trackers_get_every_number(tmp_path: Path) -> None:
    accelerator = Accelerator(
        cpu=True, log_with="tensorboard", project_config=ProjectConfiguration(str(tmp_path), logging_dir=str(tmp_path))
    )
    accelerator.init_trackers("run")
    progress = Progress(1, description="train", accelerator=accelerator)
    with progress.running():
        progress.advance(
            1,
            Losses.summed({"ctc": torch.tensor(1.5), "budget": torch.tensor(0.5)}).with_metrics(gradient_norm=2.0),
            lambda: {"learning_rate": 0.1},
        )
    accelerator.end_training()
    events = next((tmp_path / "run").glob("events*")).read_bytes()
    losses, metrics = (b"loss/ctc", b"loss/budget", b"loss/total"), (b"gradient_norm", b"learning_rate")
    assert all(name in events for name in (*losses, *metrics, b"data/wait_share"))
    assert not any(b"loss/" + name in events for name in metrics)


def test_a_terminal_gets_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from rich.console import Console

    screen = StringIO()
    monkeypatch.setattr(progress_module, "CONSOLE", Console(file=screen, force_terminal=True, width=120))
    progress = Progress(2, description="train", log_every=1)
    with progress.running():
        progress.advance(1, ctc(1.5))
        progress.advance(2, ctc(1.5))
    assert "2/2" in screen.getvalue()
    assert "loss 1.5" in screen.getvalue()


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"loss/ctc": 1.0, "loss/budget": -2.0, "loss/total": -1.0, "learning_rate": 1e-3}, "loss -1"),
        ({"loss/total": 2.345678, "size/expected": 0.913, "size/target": 0.5}, "loss 2.35  size 91.3 %, wanted 50.0 %"),
        ({"dev/wer": 0.06188, "dev/cer": 0.02172}, "WER 6.2 %  CER 2.2 %"),
        ({"dev/wer": 1.0, "dev/wer/33%": 0.5}, "WER 100.0 %  wer/33% 50.0 %"),
    ],
)
def test_a_person_sees_two_or_three_numbers(metrics: dict[str, float], text: str) -> None:
    assert progress_module.followed(metrics) == text


@pytest.mark.parametrize("width", [80, 120, 200])
def test_bar_steps_and_time_left_fit_beside_the_numbers(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from rich.console import Console

    screen = StringIO()
    monkeypatch.setattr(progress_module, "CONSOLE", Console(file=screen, force_terminal=True, width=width))
    progress = Progress(400, description="learn", log_every=1)
    many = {f"gates/kind-{number}": 0.5 for number in range(20)} | {"size/expected": 0.9, "size/target": 0.5}
    with progress.running():
        progress.advance(1, ctc(1.5), lambda: many)
    last = screen.getvalue().rpartition("learn")[2]
    for piece in ("1/400", "0:00:0", "left", "loss 1.5", "size 90.0 %, wanted 50.0 %"):
        assert piece in last


def test_a_run_killed_behind_its_last_evaluation_does_not_repeat_its_row(tmp_path: Path) -> None:
    for _ in range(2):
        progress = Progress(3, description="train", directory=tmp_path)
        with progress.running(3):
            pass
        progress.report(3, {"dev/wer": 0.5})
    assert [line["dev/wer"] for line in read(tmp_path)] == [0.5]
