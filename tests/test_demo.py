from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from compress import demo, resources
from compress.demo import TYPICAL_SECONDS, Clock, DemoConfig, Stage, StageFailedError, run_demo


class Launcher:
    """Stands in for the programs of the demo: notes each command and leaves what the program would leave."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.failing: str | None = None

    @property
    def programs(self) -> list[str]:
        return [self.program(command) for command in self.commands]

    def __call__(self, command: Sequence[str], env: dict[str, str], check: bool) -> subprocess.CompletedProcess[str]:
        words = list(command)
        self.commands.append(words)
        program = self.program(words)
        if program == self.failing:
            return subprocess.CompletedProcess(words, returncode=3)
        if program == "evaluate":
            out = Path(yaml.safe_load(Path(words[-1]).read_text())["out"])
            for name in demo.REPORT_FILES:
                (out / name).write_text("{}")
        else:
            self.train(Path(words[words.index("--output") + 1]), "best" if program == "train.py" else "final")
        return subprocess.CompletedProcess(words, returncode=0)

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
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "checkout" / "compress")
    stand_in = Launcher()
    monkeypatch.setattr(subprocess, "run", stand_in)
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
    assert "all that is left: about 9 min" in text


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


def test_a_stage_without_its_results_has_failed(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Launcher, "train", staticmethod(lambda folder, model: None))
    with pytest.raises(StageFailedError, match="Train a teacher"):
        run_demo(DemoConfig(out=str(tmp_path / "demo")))
    assert launcher.programs == ["train.py"]


def test_own_speech_is_passed_to_every_stage(launcher: Launcher, tmp_path: Path) -> None:
    run(DemoConfig(out=str(tmp_path / "demo"), data=str(tmp_path), budget="30%"))
    for command in launcher.commands[:2]:
        assert command[command.index("--data.source") + 1] == str(tmp_path)
    assert "30%" in launcher.commands[1]


def test_other_settings_in_the_same_folder_are_refused(launcher: Launcher, tmp_path: Path) -> None:
    run(DemoConfig(out=str(tmp_path / "demo")))
    with pytest.raises(ValueError, match="other settings"):
        run_demo(DemoConfig(out=str(tmp_path / "demo"), budget="30%"))


def test_missing_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a folder"):
        DemoConfig(data=str(tmp_path / "nowhere"))


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
    launcher.failing = None
    run(config)
    state = json.loads((tmp_path / "demo" / "demo.json").read_text())
    assert state["seconds"] == {"train": 14.0, "prune": 7.0, "evaluate": 7.0}
