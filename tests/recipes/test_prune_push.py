"""recipes/prune.py pushes when it ends: checked before it begins, tried again when it failed, never done twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compress.checkpoint import save
from compress.checkpoint.push import HubConfig
from compress.config import parse
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import forked
from tests.helpers.hub import READ_ONLY, TOKEN, Hub, online, running_hub
from tests.helpers.launching import command, done, load_recipe, make_split
from tests.helpers.pruning import RECIPE
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
precision: fp32
threads: 1
push: {repo_id: someone/small, license: cc-by-4.0, datasets: [someone/tones]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech, a teacher with new weights, and the config of a compression in two steps."""
    folder = tmp_path_factory.mktemp("prune-push")
    make_split(folder / "speech" / "train", 5, seed=1)
    make_split(folder / "speech" / "dev", 3, seed=2)
    processor = build_processor("parakeet", ["low mid high abcefjknp"], TokensConfig(), mel_bins=16)
    save(parakeet(), processor, folder / "teacher")
    (folder / "prune.yaml").write_text(CONFIG.replace("FOLDER", str(folder)))
    return folder


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def prune(
    folder: Path, output: Path, address: str, *overrides: str, two: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    words = command(RECIPE, (), folder / "prune.yaml", output, *overrides)
    known = online(address, output.parent / "home") | environment
    result = forked.run_two(words, **known) if two else forked.run(words, **known)
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


def test_of_two_processes_one_pushes_and_of_stages_the_smallest(folder: Path, hub: Hub, tmp_path: Path) -> None:
    """One process has an utterance more than the other to look at, and to evaluate on."""
    output = tmp_path / "run"
    more = ("--budget.stages", "[75%]", "--batch.max_utterances", "1")
    result = prune(folder, output, hub.address, *more, two=True)
    assert result.returncode == 0, result.stderr
    assert len(hub.commits) == 1
    pushed = hub.repositories["someone/small"]["model.safetensors"]
    assert pushed == (output / "final" / "model.safetensors").read_bytes()
    assert len(pushed) < (output / "stages" / "75" / "final" / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("overrides", "environment", "message"),
    [
        (("--push.repo_id", "small"), {}, "'small' is no name for a repository; it looks like user/name"),
        (("--push.repo_id", "someone/taken"), {}, "someone/taken exists already: choose another name"),
        (("--push.repo_id", "another/small"), {}, "This token has no permission to write to another/small"),
        ((), {"HF_TOKEN": ""}, "run `hf auth login`, or set HF_TOKEN"),
        ((), {"HF_TOKEN": "hf_wrong"}, "does not accept the token"),
        ((), {"HF_TOKEN": READ_ONLY}, "This token has no permission to write to someone/small"),
        ((), {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
    ],
)
def test_what_would_stop_the_push_stops_the_job_before_it_begins(
    folder: Path, hub: Hub, tmp_path: Path, overrides: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    hub.repositories["someone/taken"] = {".gitattributes": b"", "model.safetensors": b""}
    result = prune(folder, tmp_path / "run", hub.address, *overrides, **environment)
    assert result.returncode == 2
    assert message in result.stderr
    assert "--push null runs without pushing" in result.stderr
    assert not (tmp_path / "run" / "removed").exists()
    assert not hub.commits


def test_a_config_without_push_gets_one_on_the_command_line_and_loses_it_there(folder: Path) -> None:
    recipe = load_recipe(RECIPE)
    given = ["--config", str(folder / "prune.yaml")]
    assert parse(recipe.Config, [*given, "--push", "null"], prog="").push is None
    (folder / "plain.yaml").write_text((folder / "prune.yaml").read_text().partition("push:")[0])
    plain = ["--config", str(folder / "plain.yaml")]
    assert parse(recipe.Config, plain, prog="").push is None
    assert parse(recipe.Config, [*plain, "--push.repo_id", "me/x"], prog="").push == HubConfig(repo_id="me/x")
