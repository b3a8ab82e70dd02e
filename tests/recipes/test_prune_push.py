"""recipes/prune.py pushes when it ends: checked before it begins, tried again when it failed, never done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from compress.checkpoint import save
from compress.checkpoint.push import HubConfig
from compress.config import parse
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers.hub import READ_ONLY, TOKEN, Hub, running_hub
from tests.helpers.launching import (
    LAUNCH_SECONDS,
    REPOSITORY,
    TORCHRUN,
    command,
    done,
    environment,
    load_recipe,
    make_split,
)
from tests.helpers.tiny import parakeet

CONFIG = """
teacher: FOLDER/teacher
output: FOLDER/run
data: {source: FOLDER/speech, cache_dir: FOLDER/cache}
structure: uniform
budget: {params: 50%}
recover: {steps: 2, warmup_steps: 0}
batch: {seconds: 12, workers: 0}
trackers: []
threads: 1
push: {repo_id: someone/small, license: cc-by-4.0, datasets: [someone/tones]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech, a teacher with new weights, and the config of a compression in two steps."""
    folder = tmp_path_factory.mktemp("prune-push")
    make_split(folder / "speech" / "train", 4, seed=1)
    make_split(folder / "speech" / "dev", 2, seed=2)
    processor = build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=16)
    save(parakeet(), processor, folder / "teacher")
    (folder / "prune.yaml").write_text(CONFIG.replace("FOLDER", str(folder)))
    return folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def prune(
    folder: Path,
    output: Path,
    address: str,
    *overrides: str,
    token: str | None = TOKEN,
    launcher: Sequence[str] = (sys.executable,),
    offline: str = "0",
) -> subprocess.CompletedProcess[str]:
    values = {name: value for name, value in environment().items() if not name.startswith(("HF_", "HUGGING"))}
    values |= {"HF_ENDPOINT": address, "HF_HOME": str(output.parent / "home"), "HF_HUB_DISABLE_XET": "1"}
    values |= {"HF_HUB_OFFLINE": offline, "COLUMNS": "200"} | ({"HF_TOKEN": token} if token else {})
    result = subprocess.run(
        command("recipes/prune.py", launcher, folder / "prune.yaml", output, *overrides),
        cwd=REPOSITORY, env=values, capture_output=True, text=True, timeout=LAUNCH_SECONDS, check=False,
    )  # fmt: skip
    assert TOKEN not in result.stdout + result.stderr
    return result


def test_the_result_is_pushed_once_and_a_failed_push_is_tried_again(folder: Path, hub: Hub, tmp_path: Path) -> None:
    output, hub.broken = tmp_path / "run", True
    failed = prune(folder, output, hub.address)
    assert failed.returncode == 2
    assert "has ended and final/ is complete, but it could not be pushed" in failed.stderr
    repeat = f"compress push {output}/final someone/small --license cc-by-4.0 --datasets '[\"someone/tones\"]'"
    assert repeat in failed.stderr
    assert "Traceback" not in failed.stderr
    numbers, kept = done(output), (output / "final" / "model.safetensors").stat().st_mtime_ns
    assert not hub.commits
    hub.broken = False
    again = prune(folder, output, hub.address, "--push.message", "At last")
    assert again.returncode == 0, again.stderr
    assert "has already ended" in again.stderr
    assert [(name, summary) for name, summary, _ in hub.commits] == [("someone/small", "At last")]
    received = hub.repositories["someone/small"]
    assert received["model.safetensors"] == (output / "final" / "model.safetensors").read_bytes()
    assert not [name for name, content in received.items() if str(folder).encode() in content]
    assert "license: cc-by-4.0" in received["README.md"].decode()
    assert json.loads((output / "pushed.json").read_text())["repo_id"] == "someone/small"
    assert prune(folder, output, hub.address).returncode == 0
    assert len(hub.commits) == 1
    assert (done(output), (output / "final" / "model.safetensors").stat().st_mtime_ns) == (numbers, kept)


def test_of_two_processes_one_pushes(folder: Path, hub: Hub, tmp_path: Path) -> None:
    result = prune(folder, tmp_path / "run", hub.address, launcher=TORCHRUN)
    assert result.returncode == 0, result.stderr
    assert len(hub.commits) == 1


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"overrides": ("--push.repo_id", "small")}, "'small' is no name for a repository; it looks like user/name"),
        ({"overrides": ("--push.repo_id", "someone/taken")}, "someone/taken exists already: choose another name"),
        ({"overrides": ("--push.repo_id", "another/small")}, "This token has no permission to write to another/small"),
        ({"token": None}, "run `hf auth login`, or set HF_TOKEN"),
        ({"token": "hf_wrong"}, "does not accept the token"),
        ({"token": READ_ONLY}, "This token has no permission to write to someone/small"),
        ({"offline": "1"}, "HF_HUB_OFFLINE"),
    ],
)
def test_what_would_stop_the_push_stops_the_job_before_it_begins(
    folder: Path, hub: Hub, tmp_path: Path, case: dict[str, Any], message: str
) -> None:
    hub.repositories["someone/taken"] = {".gitattributes": b"", "model.safetensors": b""}
    options = {name: value for name, value in case.items() if name != "overrides"}
    result = prune(folder, tmp_path / "run", hub.address, *case.get("overrides", ()), **options)
    assert result.returncode == 2
    assert message in result.stderr
    assert "--push null runs without pushing" in result.stderr
    assert not (tmp_path / "run" / "removed").exists()
    assert not hub.commits


def test_a_config_without_push_gets_one_on_the_command_line_and_loses_it_there(folder: Path) -> None:
    recipe = load_recipe("recipes/prune.py")
    given = ["--config", str(folder / "prune.yaml")]
    assert parse(recipe.Config, [*given, "--push", "null"], prog="").push is None
    (folder / "plain.yaml").write_text((folder / "prune.yaml").read_text().partition("push:")[0])
    plain = ["--config", str(folder / "plain.yaml")]
    assert parse(recipe.Config, plain, prog="").push is None
    assert parse(recipe.Config, [*plain, "--push.repo_id", "me/x"], prog="").push == HubConfig(repo_id="me/x")
