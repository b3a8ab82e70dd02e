"""`compress push` against a server that speaks the Hub's calls: what arrives is what was sent."""

from __future__ import annotations

import html
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import compress
from compress.checkpoint import load_processor, read_compression, save
from compress.checkpoint.push import HubConfig, PushConfig, PushError, push_command, staged
from compress.checkpoint.weights import WEIGHTS_DIGEST, weights_digest
from compress.config import parse
from compress.files.reading import ReadError
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import forked
from tests.helpers.hub import READ_ONLY, TOKEN, Hub, online, running_hub
from tests.helpers.processors import processor_of
from tests.helpers.tiny import MODELS, parakeet, random_structure

REPORT: dict[str, Any] = {
    "data": {"source": "digits", "subset": None, "split": "test"},
    "model": {"wer": 0.0269, "wer_ci95": [0.02, 0.03], "words": 2414, "parameters": {"total": 50},
              "macs_per_second": 41e6, "rtf": 0.002},
    "baseline": {"wer": 0.029, "wer_ci95": [0.02, 0.04], "words": 2414, "parameters": {"total": 100},
                 "macs_per_second": 67e6, "rtf": 0.003},
    "difference": {"wer": -0.0021, "wer_ci95": [-0.006, 0.002]},
    "conditions": {"device_name": "a processor", "batch": 1, "seconds": 10.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push")
    model = parakeet()
    small = compress.remove(model, random_structure(model, 1))
    facts = {"method": "prune", "teacher": "someone/parakeet", "parameters_before": model.num_parameters()}
    save(
        small,
        build_processor("parakeet", ["my quick brown fox jet"], TokensConfig(), mel_bins=16),
        folder / "model",
        facts,
    )
    REPORT["model"]["parameters"]["total"] = small.num_parameters()
    (folder / "report").mkdir()
    (folder / "report" / "report.json").write_text(json.dumps(REPORT))
    (folder / "report" / "report.md").write_text("# Report\n")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"parameters": {"total": 50}},
            "is the report of a model with 50 parameters, and .*model has [0-9,]+; make its",
        ),
        (
            {"weights_sha256": "0" * 64},
            "is the report of a model with other weights than .*model; make its own with: co",
        ),
        (
            {"runtime": {"name": "ONNX Runtime"}, "weights_sha256": "0" * 64},
            "is the report of an export that ONNX Runtime ran, .*; make its own with: compress evaluate .*model --data",
        ),
    ],
)
def test_the_report_of_another_model_is_refused(
    checkpoint: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT | {"model": REPORT["model"] | change}))
    config = PushConfig(repo_id="me/small", model=str(checkpoint / "model"), report=str(tmp_path))
    with pytest.raises(PushError, match=message), staged(config):
        pass


def test_what_makes_no_model_card_is_named(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT | {"conditions": {}}))
    config = PushConfig(repo_id="me/small", model=str(checkpoint / "model"), report=str(tmp_path))
    with (
        pytest.raises(PushError, match=rf"What {tmp_path} says does not make a model card .*: it is damaged"),
        staged(config),
    ):
        pass


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"parameters_before": "many"}, "parameters_before must be a whole number"),
        ({"full": 0}, "full is 0"),
        ({"wer": {"dev": "good"}}, "wer.dev is 'good'"),
        ({"teacher_compression": {"method": "prune", "parameters": "few"}}, "parameters is 'few'"),
        ({"teacher_compression": {"teacher_compression": 5}}, "teacher_compression is 5"),
    ],
)
def test_a_damaged_compression_is_named(tmp_path: Path, facts: dict[str, object], message: str) -> None:
    (tmp_path / "compression.json").write_text(json.dumps(facts))
    with pytest.raises(ReadError, match=rf"compression\.json: .*{message}"):
        read_compression(str(tmp_path))


def test_a_model_that_was_moved_keeps_its_report(checkpoint: Path, tmp_path: Path) -> None:
    model = tmp_path / "elsewhere"
    shutil.copytree(checkpoint / "model", model)
    digest = weights_digest(str(checkpoint / "model"))
    (tmp_path / "report.json").write_text(json.dumps(REPORT | {"model": REPORT["model"] | {WEIGHTS_DIGEST: digest}}))
    with staged(PushConfig(repo_id="me/small", model=str(model), report=str(tmp_path))) as stage:
        assert (stage / "report" / "report.json").is_file()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def push(
    checkpoint: Path, address: str, tmp_path: Path, *options: str, token: str | None = TOKEN
) -> subprocess.CompletedProcess[str]:
    words = ["-m", "compress", "push", str(checkpoint / "model"), "someone/small", *options]
    done = forked.run(words, **online(address, tmp_path / "home", token))
    assert TOKEN not in done.stdout + done.stderr
    return done


LOAD = """
import sys
import torch
import compress
from transformers import AutoModelForCTC, AutoProcessor
model = AutoModelForCTC.from_pretrained("someone/small")
AutoProcessor.from_pretrained("someone/small")
torch.save(model.state_dict(), sys.argv[1])
"""


def test_one_commit_with_everything_is_loaded_back(checkpoint: Path, hub: Hub, tmp_path: Path) -> None:
    options = ("--report", str(checkpoint / "report"), "--license", "cc-by-4.0", "--datasets", "[someone/digits]")
    done = push(checkpoint, hub.address, tmp_path, *options, "--language", "en", "--private", "true")
    assert done.returncode == 0, done.stderr
    assert f"{hub.address}/someone/small/commit/" in done.stdout
    [(name, _, paths)] = hub.commits
    assert name == "someone/small"
    assert hub.private == {"someone/small"}
    sent = {path.name for path in (checkpoint / "model").iterdir()}
    assert set(paths) == sent | {"report/report.json", "report/report.md"}
    received = hub.repositories["someone/small"]
    for file in sent - {"README.md"}:
        assert received[file] == (checkpoint / "model" / file).read_bytes()
    loaded = forked.run(["-c", LOAD, str(tmp_path / "weights.pt")], **online(hub.address, tmp_path / "fresh"))
    assert loaded.returncode == 0, loaded.stderr
    import torch

    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    original = load_file(checkpoint / "model" / "model.safetensors")
    assert all(torch.equal(weights[key], tensor) for key, tensor in original.items())


def test_the_card_has_metadata_and_the_comparison(checkpoint: Path, hub: Hub, tmp_path: Path) -> None:
    options = ("--report", str(checkpoint / "report"), "--license", "cc-by-4.0", "--datasets", "[someone/digits]")
    assert push(checkpoint, hub.address, tmp_path, *options).returncode == 0
    card = hub.repositories["someone/small"]["README.md"].decode()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["base_model"] == "someone/parakeet"
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["datasets"] == ["someone/digits"]
    assert {"conformer", "structured-pruning"} <= set(metadata["tags"])
    [result] = metadata["model-index"][0]["results"]
    assert metadata["model-index"][0]["name"] == "small"
    assert result["task"]["type"] == "automatic-speech-recognition"
    assert result["dataset"] == {"name": "digits", "type": "digits", "split": "test"}
    assert result["metrics"][0]["value"] == 2.69
    assert "| WER | 2.90 % | 2.69 % (2.00 to 3.00) |" in card
    assert 'AutoModelForCTC.from_pretrained("someone/small")' in card
    assert str(checkpoint) not in card


@pytest.mark.parametrize("compared", [True, False])
def test_the_card_says_where_a_source_has_no_splits(checkpoint: Path, tmp_path: Path, compared: bool) -> None:
    report = {key: value for key, value in REPORT.items() if compared or key not in ("baseline", "difference")}
    written = json.dumps(report | {"data": REPORT["data"] | {"split": None}})
    (tmp_path / "report.json").write_text(written)
    with staged(PushConfig(repo_id="me/small", model=str(checkpoint / "model"), report=str(tmp_path))) as stage:
        assert "on the whole source, 2,414 words" in (stage / "README.md").read_text()


@pytest.mark.parametrize("compared", [True, False])
def test_the_card_says_what_was_measured_with_skipping(checkpoint: Path, tmp_path: Path, compared: bool) -> None:
    skipping = {"rtf": {"on": 0.001, "off": 0.0015, "baseline": 0.004}, "macs_share": 0.625, "off": {"wer": 0.0251}}
    report = {key: value for key, value in REPORT.items() if compared or key not in ("baseline", "difference")}
    (tmp_path / "report.json").write_text(json.dumps(report | {"skipping": skipping}))
    with staged(PushConfig(repo_id="me/small", model=str(checkpoint / "model"), report=str(tmp_path))) as stage:
        card = (stage / "README.md").read_text()
    if not compared:
        assert "WER with skipping 2.69 % (2.00 to 3.00) on" in card
        return
    assert "| WER | 2.90 % | 2.69 % (2.00 to 3.00), with skipping |" in card
    assert "| MACs per second of audio | 67,000,000 | 41,000,000, without skipping |" in card
    assert "| real-time factor | 0.00300 | 0.00200, without skipping |" in card
    assert "| real-time factor on this speech | 0.00400 | 0.00100, with skipping |" in card
    assert "With skipping, 62.5 % of the MACs on this speech are done; without it the WER is 2.51 %." in card


def test_what_is_sent_names_no_local_folder(checkpoint: Path, hub: Hub, tmp_path: Path) -> None:
    """Teacher, speech and files with absolute paths: their last components are sent, and the folder stays as it is."""
    place = tmp_path / "my speech & more"
    whole = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, whole)
    (place / "teacher").mkdir(parents=True)
    facts = json.loads((whole / "model" / "compression.json").read_text())
    facts["teacher"] = f"{place}/teacher"
    facts["teacher_compression"] = {"teacher": "nvidia/parakeet-ctc-0.6b", "structure": f"{place}/structure.json"}
    (whole / "model" / "compression.json").write_text(json.dumps(facts))
    config = json.loads((whole / "model" / "config.json").read_text())
    (whole / "model" / "config.json").write_text(json.dumps(config | {"_name_or_path": f"{place}/teacher"}))
    problems = [{"file": "train/1.wav", "reason": f"'{place}/train/1.wav' is empty"}]
    report = REPORT | {
        "data": REPORT["data"] | {"source": str(place), "problems": problems},
        "model": REPORT["model"] | {"name": str(whole / "model"), "compression": facts},
        "worst": [{"id": f"{place}/2.wav", "reference": "this and/or that"}],
    }
    (whole / "report" / "report.json").write_text(json.dumps(report, ensure_ascii=False))
    (whole / "report" / "report.md").write_text(f"# {whole}/model\n\n- `{place}/2.wav`, teacher {place}/teacher\n")
    (whole / "report" / "report.html").write_text(f"<b>{html.escape(str(place))}</b>")
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    done = push(whole, hub.address, tmp_path, "--report", str(whole / "report"))
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before
    received = hub.repositories["someone/small"]
    assert not [name for name, content in received.items() if str(tmp_path).encode() in content]
    sent = json.loads(received["compression.json"])
    assert sent == facts | {
        "teacher": "teacher",
        "teacher_compression": {"teacher": "nvidia/parakeet-ctc-0.6b", "structure": "structure.json"},
    }
    assert json.loads(received["config.json"]) == config | {"_name_or_path": "teacher"}
    shown = json.loads(received["report/report.json"])
    assert shown["data"]["source"] == "my speech & more"
    assert shown["data"]["problems"] == [{"file": "train/1.wav", "reason": "'my speech & more/train/1.wav' is empty"}]
    assert shown["worst"][0]["id"] == "2.wav"
    assert received["report/report.html"] == b"<b>my speech &amp; more</b>"
    assert received["report/report.md"] == b"# model\n\n- `2.wav`, teacher teacher\n"
    card = received["README.md"].decode()
    assert "made from `teacher`" in card
    assert "base_model" not in yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize("folder", ["someone/small", "one/small"])
def test_the_card_names_the_repository_whatever_the_folder_is_called(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    shutil.copytree(checkpoint / "model", tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    with staged(PushConfig(repo_id="someone/small", model=folder)) as stage:
        assert (stage / "README.md").read_text().count('.from_pretrained("someone/small"') == 4


def test_a_text_that_is_not_utf_8_is_named(checkpoint: Path, tmp_path: Path) -> None:
    model = shutil.copytree(checkpoint / "model", tmp_path / "model")
    (model / "notes.txt").write_bytes("für uns".encode("latin-1"))
    with pytest.raises(PushError, match=r"^notes\.txt is no text in UTF-8 \(invalid start byte at byte 1\), so"):
        staged(PushConfig(repo_id="me/small", model=str(model))).__enter__()


def test_a_dry_run_shows_files_and_sends_nothing(checkpoint: Path, hub: Hub, tmp_path: Path) -> None:
    done = push(checkpoint, hub.address, tmp_path, "--dry-run", token=None)
    assert done.returncode == 0, done.stderr
    assert "model.safetensors" in done.stdout
    assert "structure.json" in done.stdout
    assert "Nothing was sent" in done.stdout
    assert not hub.repositories


def test_every_chat_template_of_a_processor_is_sent(tmp_path: Path) -> None:
    model = MODELS["granite_speech"]()
    processor = processor_of(model)
    processor.chat_template = {"default": processor.chat_template, "translate": "{{ 'translate' }}"}
    save(model, processor, tmp_path / "model")
    with staged(PushConfig(model=str(tmp_path / "model"), repo_id="someone/small")) as stage:
        sent = load_processor(str(stage))
        assert sent.chat_template == load_processor(str(tmp_path / "model")).chat_template
    assert set(sent.chat_template) == {"default", "translate"}


def test_a_taken_name_needs_update(checkpoint: Path, hub: Hub, tmp_path: Path) -> None:
    assert push(checkpoint, hub.address, tmp_path).returncode == 0
    again = push(checkpoint, hub.address, tmp_path)
    assert again.returncode == 2
    assert "someone/small exists already: choose another name, or give --update (a recipe" in again.stderr
    assert len(hub.commits) == 1
    assert push(checkpoint, hub.address, tmp_path, "--update", "--message", "Better").returncode == 0
    assert [commit[1] for commit in hub.commits] == ["Compressed with conformer-compress", "Better"]


def test_a_push_that_failed_on_its_way_can_be_repeated(checkpoint: Path, hub: Hub, tmp_path: Path) -> None:
    hub.broken = True
    failed = push(checkpoint, hub.address, tmp_path)
    assert failed.returncode == 2
    assert "answered 400 for someone/small: The disks are being changed" in failed.stderr
    assert hub.repositories == {"someone/small": {}}
    hub.broken = False
    assert push(checkpoint, hub.address, tmp_path).returncode == 0
    assert "model.safetensors" in hub.repositories["someone/small"]


def test_the_command_that_repeats_a_push_says_all_that_is_not_the_default() -> None:
    config = HubConfig(repo_id="me/small", license="cc-by-4.0", datasets=("a/b", "c"), private=True, message="It's new")
    words = shlex.split(push_command(config, "runs/my run/final"))
    assert words[:2] == ["compress", "push"]
    pushed = parse(PushConfig, words[2:], prog="compress push", positional=["model", "repo_id"])
    assert pushed == PushConfig(
        model="runs/my run/final", **{field.name: getattr(config, field.name) for field in fields(HubConfig)}
    )
    assert push_command(HubConfig(repo_id="me/small"), "final") == "compress push final me/small"


@pytest.mark.parametrize(
    ("token", "message"),
    [
        (None, "run `hf auth login`, or set HF_TOKEN"),
        ("hf_wrong", "does not accept the token"),
        (READ_ONLY, "no permission to write to someone/small"),
    ],
)
def test_without_a_right_to_write_it_says_so(
    checkpoint: Path, hub: Hub, tmp_path: Path, token: str | None, message: str
) -> None:
    done = push(checkpoint, hub.address, tmp_path, token=token)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not hub.commits


def test_without_network_it_says_so(checkpoint: Path, tmp_path: Path) -> None:
    done = push(checkpoint, "http://127.0.0.1:9", tmp_path)
    assert done.returncode == 2
    assert "http://127.0.0.1:9 cannot be reached" in done.stderr


def test_what_is_not_whole_is_not_pushed(checkpoint: Path, hub: Hub, tmp_path: Path) -> None:
    done = push(checkpoint, hub.address, tmp_path, "--report", str(tmp_path))
    assert done.returncode == 2
    assert "holds no report.json; make one with: compress evaluate" in done.stderr
    done = forked.run(["-m", "compress", "push", str(tmp_path), "someone/small"])
    assert done.returncode == 2
    assert "holds no config.json" in done.stderr
    assert not hub.repositories


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repo_id": "noslash"}, "'noslash' is no name for a repository; it looks like user/name"),
        ({"repo_id": "a/b/c"}, "'a/b/c' is no name for a repository; it looks like user/name"),
        ({"license": "My Licence!"}, "license is 'My Licence!', which the Hub does not know; did you mean"),
        ({"license": "cc-by-4"}, "license is 'cc-by-4', which the Hub does not know; did you mean 'cc-by-4.0'"),
    ],
)
def test_names_are_checked_before_anything_is_made(
    checkpoint: Path, change: dict[str, str], message: str, dry_run: bool
) -> None:
    given: dict[str, Any] = {"repo_id": "me/small", "model": str(checkpoint / "model"), "dry_run": dry_run} | change
    with pytest.raises(PushError, match=message), staged(PushConfig(**given)):
        pass
