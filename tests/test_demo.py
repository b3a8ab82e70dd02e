from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from compress import demo
from compress.cli import main
from compress.demo import TYPICAL_SECONDS, Clock, DemoConfig, Stage, StageFailedError, run_demo
from compress.files import shipped
from tests.helpers import forked
from tests.helpers.page_runner import recipe_and_options

REPORT = {
    "baseline": {"wer": 0.0312, "parameters": {"total": 2_000_000}, "bytes": 8 << 20},
    "model": {"wer": 0.0406, "parameters": {"total": 999_000}, "bytes": 4 << 20},
}


class Launcher:
    """Stands in for the programs of the demo: notes each command and leaves what the program would leave."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.failing: str | None = None

    @property
    def programs(self) -> list[str]:
        return [self.program(command) for command in self.commands]

    def __call__(self, command: Sequence[str], environment: dict[str, str]) -> int:
        words = list(command)
        self.commands.append(words)
        program = self.program(words)
        if program == self.failing:
            return 3
        if program == "evaluate":
            out = Path(yaml.safe_load(Path(words[-1]).read_text())["out"])
            for name in demo.SHOWN_FILES:
                (out / name).write_text(json.dumps(REPORT))
        else:
            self.train(Path(words[words.index("--output") + 1]), "best" if program == "train.py" else "final")
        return 0

    @staticmethod
    def program(command: Sequence[str]) -> str:
        return next(Path(word).name for word in command if word == "evaluate" or word.endswith(".py"))

    @staticmethod
    def train(folder: Path, model: str) -> None:
        (folder / model).mkdir(parents=True)
        (folder / model / "config.json").write_text("{}")
        (folder / "config.json").write_text(json.dumps({"data": {"source": "synthetic", "split": "train", "limit": 5}}))
        (folder / "done.json").write_text("{}")


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Launcher:
    """No program runs, and a checkout with empty recipes and configs stands in for the real one."""
    for name in ("recipes/train.py", "recipes/prune.py", "configs/demo/train.yaml", "configs/demo/prune.yaml"):
        file = tmp_path / "checkout" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "checkout" / "compress")
    monkeypatch.chdir(tmp_path)
    stand_in = Launcher()
    monkeypatch.setattr(demo, "_execute", stand_in)
    return stand_in


def run(config: DemoConfig) -> str:
    console = Console(record=True, width=200)
    report = run_demo(config, console=console)
    assert report.is_file()
    return console.export_text()


def test_it_launches_the_recipes_a_user_launches(launcher: Launcher, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    text = run(DemoConfig(out=str(out)))
    assert launcher.programs == ["train.py", "prune.py", "evaluate"]
    train, prune, _ = (" ".join(command) for command in launcher.commands)
    assert "accelerate.commands.launch" in train
    assert f"configs/demo/train.yaml --output {out}/teacher" in train
    assert f"--teacher {out}/teacher/best --budget.params 50%" in prune
    evaluation = yaml.safe_load((out / "evaluate.yaml").read_text())
    assert evaluation["model"] == f"{out}/student/final"
    assert evaluation["baseline"] == f"{out}/teacher/best"
    assert evaluation["data"] == {"source": "synthetic", "split": "test", "limit": None}
    assert text.index("[1/3]") < text.index("[2/3]") < text.index("[3/3]") < text.index("report.html")
    assert f"all that is left: about {round(sum(TYPICAL_SECONDS.values()) / 60)} min" in text


def test_it_ends_with_what_it_found(launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Any = iter(range(0, 1000, 30))
    monkeypatch.setattr(demo.time, "monotonic", lambda: next(ticks))
    *_, found, where = run(DemoConfig(out=str(tmp_path / "demo"))).splitlines()
    assert found == (
        "Teacher WER 3.12 %, 2.00 M parameters, 8.00 MiB; compressed WER 4.06 %, 999 k parameters, 4.00 MiB"
    )
    assert where.startswith("1.5 min in all; the report: ")


def test_run_again_it_does_nothing_twice(launcher: Launcher, tmp_path: Path) -> None:
    config = DemoConfig(out=str(tmp_path / "demo"))
    run(config)
    launcher.commands.clear()
    assert run(config).count("done before") == 3
    assert launcher.commands == []


def test_a_failed_stage_is_where_it_continues(launcher: Launcher, tmp_path: Path) -> None:
    config = DemoConfig(out=str(tmp_path / "demo"))
    launcher.failing = "prune.py"
    with pytest.raises(StageFailedError, match="exit code 3"):
        run_demo(config)
    launcher.failing = None
    launcher.commands.clear()
    run(config)
    assert launcher.programs == ["prune.py", "evaluate"]


@pytest.mark.parametrize(
    ("deleted", "redone"), [("teacher", ["train.py", "prune.py", "evaluate"]), ("student", ["prune.py", "evaluate"])]
)
def test_what_follows_a_repeated_stage_is_repeated(
    launcher: Launcher, tmp_path: Path, deleted: str, redone: list[str]
) -> None:
    config = DemoConfig(out=str(tmp_path / "demo"))
    run(config)
    stale = tmp_path / "demo" / "student" / "checkpoints"
    stale.mkdir()
    shutil.rmtree(tmp_path / "demo" / deleted)
    launcher.commands.clear()
    launcher.failing = redone[0]
    with pytest.raises(StageFailedError):
        run_demo(config)
    assert not stale.exists()
    assert not (tmp_path / "demo" / "report.json").exists()
    launcher.failing = None
    run(config)
    assert launcher.programs == [redone[0], *redone]


def test_what_the_demo_did_not_write_is_never_deleted(launcher: Launcher, tmp_path: Path) -> None:
    mine = tmp_path / "student" / "thesis.txt"
    mine.parent.mkdir()
    mine.touch()
    launcher.failing = "train.py"
    with pytest.raises(StageFailedError):
        run_demo(DemoConfig(out=str(tmp_path)))
    assert mine.exists()


def test_a_stage_without_its_results_has_failed(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Launcher, "train", staticmethod(lambda folder, model: None))
    with pytest.raises(StageFailedError, match="Train a teacher"):
        run_demo(DemoConfig(out=str(tmp_path / "demo")))
    assert launcher.programs == ["train.py"]


def test_own_speech_is_passed_to_every_stage(launcher: Launcher, tmp_path: Path) -> None:
    speech = own_speech(tmp_path / "speech", "train", "dev", "test")
    run(DemoConfig(out=str(tmp_path / "demo"), data=str(speech), budget="30%"))
    for command in launcher.commands[:2]:
        assert command[command.index("--data.source") + 1] == str(speech)
    assert "30%" in launcher.commands[1]


def test_other_settings_in_the_same_folder_are_refused(launcher: Launcher, tmp_path: Path) -> None:
    run(DemoConfig(out=str(tmp_path / "demo")))
    with pytest.raises(ValueError, match="other settings"):
        run_demo(DemoConfig(out=str(tmp_path / "demo"), budget="30%"))


@pytest.mark.parametrize("name", ["train", "prune"])
def test_an_edited_config_is_noticed(launcher: Launcher, tmp_path: Path, name: str) -> None:
    config = DemoConfig(out=str(tmp_path / "demo"))
    launcher.failing = "train.py"
    (tmp_path / "demo/teacher").mkdir(parents=True)
    with pytest.raises(StageFailedError):
        run_demo(config)
    (tmp_path / "checkout" / "configs" / "demo" / f"{name}.yaml").write_text("max_steps: 5\n")
    with pytest.raises(ValueError, match=rf"before configs/demo/{name}\.yaml changed.*--out"):
        run_demo(config)


def test_a_first_stage_that_was_refused_binds_nothing(launcher: Launcher, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/demo.json").write_text("{}")
    run(DemoConfig(out=str(tmp_path / "demo")))
    (tmp_path / "demo/demo.json").write_text("{}")
    with pytest.raises(ValueError, match=r"demo\.json lacks settings\. .*: give another folder with --out"):
        run_demo(DemoConfig(out=str(tmp_path / "demo")))


def own_speech(folder: Path, *splits: str) -> Path:
    for split in splits:
        (folder / split).mkdir(parents=True)
        (folder / split / "metadata.csv").write_text("file_name,transcription\n")
    return folder


def test_missing_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a folder"):
        DemoConfig(data=str(tmp_path / "nowhere"))


def test_speech_without_splits_is_refused(tmp_path: Path) -> None:
    """A folder without splits would be read as a whole for each of them: trained and tested on the same speech."""
    own_speech(tmp_path, "train", "dev")
    (tmp_path / "metadata.csv").write_text("file_name,transcription\n")
    (tmp_path / "test").mkdir()
    with pytest.raises(ValueError, match=r"in which test is missing: .*metadata\.csv"):
        DemoConfig(data=str(tmp_path))
    with pytest.raises(ValueError, match="in which train, dev, test are missing"):
        DemoConfig(data=str(tmp_path / "test"))


def test_tables_named_after_splits_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("train-00000-of-00001.parquet", "dev/0000.parquet", "test.arrow"):
        (tmp_path / name).touch()
    assert DemoConfig(data=str(tmp_path)).data == str(tmp_path)


def stages(tmp_path: Path, complete: int) -> list[Stage]:
    found = []
    for number, name in enumerate(TYPICAL_SECONDS):
        result = tmp_path / name
        if number < complete:
            result.touch()
        found.append(Stage(name, name, (), (result,)))
    return found


def test_time_left_follows_the_pace_of_this_machine(tmp_path: Path) -> None:
    train, prune, evaluate = TYPICAL_SECONDS.values()
    assert Clock({}).left(stages(tmp_path, 0)) == train + prune + evaluate
    assert Clock({"train": 2 * train}).left(stages(tmp_path, 1)) == 2 * (prune + evaluate)
    half_pruned = Clock({"train": train, "prune": prune / 2})
    assert half_pruned.left(stages(tmp_path, 1)) == prune / 2 + evaluate
    endless = Clock({"train": train, "prune": 10 * prune})
    assert endless.left(stages(tmp_path, 1)) > evaluate
    assert Clock(dict.fromkeys(TYPICAL_SECONDS, 1.0)).left(stages(tmp_path, 3)) == 0


def test_times_add_up_over_runs(launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DemoConfig(out=str(tmp_path / "demo"))
    ticks: Any = iter(range(0, 1000, 7))
    monkeypatch.setattr(demo.time, "monotonic", lambda: next(ticks))
    launcher.failing = "train.py"
    with pytest.raises(StageFailedError):
        run_demo(config)
    (tmp_path / "demo" / "teacher").mkdir()  # what a training leaves that had begun
    launcher.failing = None
    run(config)
    state = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert state["seconds"] == {"train": 14.0, "prune": 7.0, "evaluate": 7.0}


GRANDCHILD = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(f"{child.pid}\\n")
child.wait()
"""
EXECUTED = f"""
import signal, sys
from compress.demo import _execute
signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run in the background both may be ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
_execute([sys.executable, "-c", {GRANDCHILD!r}, sys.argv[1]], {{}})
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_outlives_an_interruption(sent: signal.Signals, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = forked.Program(["-c", EXECUTED, str(note)])
    while not (note.exists() and note.read_text().endswith("\n")):
        assert program.is_running
        time.sleep(0.01)
    grandchild = int(note.read_text())
    program.kill(by=sent)
    assert program.ended().returncode != 0
    deadline = time.monotonic() + 10
    while running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(grandchild)


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with demo._termination_interrupts():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_stopping_what_has_ended_already() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    demo._stop(process)  # its process group is gone; that is no error
    assert process.returncode == 0


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and ") Z " in status.read_text())


# The real thing, small ------------------------------------------------------------------------------------------------

SMALL_TRAIN = """
output: unused
data: {source: synthetic, cache_dir: CACHE, synthetic: SPEECH}
model:
  family: parakeet
  settings:
    hidden_size: 32
    num_hidden_layers: 2
    num_attention_heads: 4
    intermediate_size: 64
    subsampling_conv_channels: 8
tokens: {kind: characters}
batch: {seconds: 8, workers: 0}
optimizer: {warmup_steps: 1}
precision: fp32
max_steps: 4
evaluate_every_steps: 4
checkpoint_every_steps: 2
threads: 1
"""
SMALL_PRUNE = """
teacher: unused
output: unused
data: {source: synthetic, cache_dir: CACHE, synthetic: SPEECH}
budget: {params: 50%}
learn: {steps: 4, warmup_steps: 1}
recover: {steps: 2, learning_rate: 1.0e-4}
precision: fp32
batch: {seconds: 8, workers: 0}
evaluate_every_steps: 2
checkpoint_every_steps: 2
threads: 1
"""
SMALL_SPEECH = "{hours: 0.01, dev_utterances: 4, test_utterances: 4, grammar: digits}"


def execute_in_a_fork(command: Sequence[str], environment: dict[str, str]) -> int:
    """Runs a command of the demo; of a launcher's, which its parser must accept, the recipe as one process."""
    words = list(command[command.index("-m") :])
    if words[1] == "accelerate.commands.launch":
        words = recipe_and_options(["accelerate", "launch", *words[2:]])
    words = [str(Path(word).resolve()) if Path(word).exists() else word for word in words]
    ended = forked.run(words, **environment)
    sys.stderr.write(ended.stderr)
    return ended.returncode


def test_the_whole_story_at_a_reduced_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command line and the real recipes, with models too small to learn anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_execute", execute_in_a_fork)
    for name, text in {"train": SMALL_TRAIN, "prune": SMALL_PRUNE}.items():
        written = text.replace("SPEECH", SMALL_SPEECH).replace("CACHE", str(tmp_path / "cache"))
        (tmp_path / f"{name}.yaml").write_text(written)
    assert main(["demo", "--out", str(tmp_path / "demo"), "--train", "train.yaml", "--prune", "prune.yaml"]) == 0
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    teacher, student = report["baseline"]["parameters"]["total"], report["model"]["parameters"]["total"]
    assert student <= teacher // 2
    assert report["ratio"]["parameters"] == pytest.approx(student / teacher)
    assert "wer_ci95" in report["difference"]
    assert (tmp_path / "demo" / "report.html").stat().st_size > 0
    assert "compressed WER" in capsys.readouterr().err
    again = run(DemoConfig(out=str(tmp_path / "demo"), train="train.yaml", prune="prune.yaml"))
    assert again.count("done before") == 3
