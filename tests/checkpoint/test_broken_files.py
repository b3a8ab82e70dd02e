"""Files of a checkpoint that are broken in whatever way end in one line that names the file, and in no time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from compress.checkpoint import (
    CheckpointError,
    load_config,
    load_model,
    load_processor,
    loading,
    read_compression,
    save,
)
from compress.cli import main
from compress.files.reading import ReadError, read_object
from compress.machine import find_device
from compress.structure import Structure, StructureError
from tests.helpers.samples import parakeet_processor, wav2vec2_processor
from tests.helpers.tiny import parakeet

LINES, CHARACTERS = 3, 600
"""More than so much is no message."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    save(parakeet(), parakeet_processor(), folder)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "model")
    return tmp_path / "model"


def setting(key: str, value: Any) -> Callable[[str], str]:
    def change(text: str) -> str:
        content = json.loads(text)
        place = content
        *owners, last = key.split(".")
        for owner in owners:
            place = place[owner]
        place[last] = value
        return json.dumps(content)

    return change


def text(content: str) -> Callable[[str], str]:
    return lambda _: content


NO_JSON = {
    "null": text("null"), "list": text("[]"), "empty": text(""), "half": lambda whole: whole[: len(whole) // 2],
    "deep": text("[" * 100_000), "number": text("NaN"), "bytes": text("\udc80"),
}  # fmt: skip
CONFIGS = NO_JSON | {
    f"{key}={value!r}"[:40]: setting(f"encoder_config.{key}", value)
    for key, value in [
        ("hidden_size", 10**9), ("hidden_size", 0), ("hidden_size", -32), ("hidden_size", "32"), ("hidden_size", None),
        ("hidden_size", [32]), ("num_hidden_layers", 10**9), ("num_hidden_layers", 5000), ("num_attention_heads", 0),
        ("num_attention_heads", 5), ("hidden_act", "nonsense"), ("conv_kernel_size", 0), ("intermediate_size", 1e12),
        ("subsampling_factor", 0), ("num_mel_bins", -1),
    ]
}  # fmt: skip
CONFIGS |= {
    "vocabulary": setting("vocab_size", 10**9),
    "encoder": setting("encoder_config", 7),
    "dtype": setting("dtype", 10**9),
    "type of weights": setting("encoder_config.dtype", "int8"),
    "type": setting("model_type", ["parakeet_ctc"]),
    "nested": setting("extra", json.loads("[" * 200 + "]" * 200)),
    "quantised": setting("quantization_config", {"quant_method": "nonsense"}),
}


def is_one_line(error: BaseException) -> bool:
    return str(error).count("\n") < LINES and len(str(error)) < CHARACTERS + 1000 * ("Supported:" in str(error))


@pytest.mark.parametrize("change", CONFIGS)
def test_a_broken_config(copy: Path, change: str) -> None:
    path = copy / "config.json"
    path.write_bytes(CONFIGS[change](path.read_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.json|is not supported|model") as error:
        load_model(str(copy))
    assert str(copy) in str(error.value)
    assert is_one_line(error.value)


PROCESSORS: dict[str, tuple[str, Callable[[str], str]]] = {
    f"{name}-{kind}": (name, change)
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json")
    for kind, change in NO_JSON.items()
    if (name, kind) not in {("tokenizer_config.json", "list")}
} | {
    f"feature_extractor.{key}={value!r}": ("processor_config.json", setting(f"feature_extractor.{key}", value))
    for key, value in [
        ("feature_size", 0), ("feature_size", 10**9), ("sampling_rate", 0), ("sampling_rate", 10**12), ("n_fft", -1),
        ("hop_length", 0.5), ("sampling_rate", "16000"), ("feature_size", "many"),
    ]
}  # fmt: skip


@pytest.mark.parametrize("change", PROCESSORS)
def test_a_broken_processor(copy: Path, change: str) -> None:
    name, mutate = PROCESSORS[change]
    path = copy / name
    path.write_bytes(mutate(path.read_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="model") as error:
        load_processor(str(copy))
    assert is_one_line(error.value)


def test_a_folder_without_a_tokenizer_or_an_extractor(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no processor .* Those of the original belong beside the weights"):
        load_processor(str(copy))


def test_a_processor_with_a_language_model_decodes_greedily(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    wav2vec2_processor(tmp_path).save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "wav2vec2-conformer"}')
    for name in ("processor_config.json", "tokenizer_config.json"):
        path = folder / name
        path.write_text(setting("processor_class", "Wav2Vec2ProcessorWithLM")(path.read_text()))
    processor = load_processor(str(folder))
    assert processor.batch_decode([[3, 3, 0, 4]]) == ["AB"]
    assert processor.feature_extractor.sampling_rate == 16000


def test_nothing_waits_for_a_pipe_or_a_folder(copy: Path) -> None:
    for name, load in (
        ("config.json", load_config),
        ("tokenizer.json", load_processor),
        ("model.safetensors", load_model),
    ):
        (copy / name).rename(copy / "kept")
        os.mkfifo(copy / name)
        with pytest.raises(ValueError, match=f"{name} is no regular file|holds no config.json"):
            load(str(copy))
        (copy / name).unlink()
        (copy / "kept").rename(copy / name)


def test_what_we_write_ourselves_is_read_in_its_form(tmp_path: Path) -> None:
    path = tmp_path / "compression.json"
    for content, message in (("[]", "must be an object, and is list"), ("{", "is no JSON: line 1"), ("", "is no JSON")):
        path.write_text(content)
        with pytest.raises(ReadError, match=f"compression.json {message}"):
            read_compression(str(tmp_path))
    path.write_text('{\n "a": {\n  "b": "x"\n }\n}')
    with pytest.raises(ReadError, match=r"compression.json: a.b must be a number, and is str"):
        read_object(path, {"a.b": float})
    with pytest.raises(ReadError, match=r"compression.json lacks a.c"):
        read_object(path, {"a.c": int})
    path.write_text('{\n "a": 1,\n "b": \n}')
    with pytest.raises(ReadError, match="is no JSON: line 4: Expecting value"):
        read_object(path)


def test_a_structure_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "structure.json"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    for refused in (path, tmp_path):
        with pytest.raises(StructureError, match=r"is no structure.json: that is a regular file of up to"):
            Structure.load(refused)


@pytest.mark.parametrize("name", ["mps", "vulkan", "meta", "xpu", "nonsense"])
def test_devices_that_torch_lacks(name: str) -> None:
    with pytest.raises(ValueError, match=f"device='{name}' .*use "):
        find_device(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "runs/nope",
            "No model can be loaded from 'runs/nope': there is no such folder here, and nothing of that name",
        ),
        ("./nope", "There is no folder './nope'"),
        ("", "The model's name is empty"),
    ],
)
def test_a_path_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(name)


def test_the_folder_of_a_run_names_its_models(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run / "best")
    (run / "config.json").write_text('{"output": "run"}')
    with pytest.raises(CheckpointError, match=r"run' is no checkpoint, but the folder of a run; .*: .*run/best\.$"):
        load_model(str(run))


@pytest.mark.parametrize("verb", ["apply", "elastic", "extract", "export", "shrink", "skip"])
def test_where_nothing_can_be_written_nothing_is_begun(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The models are not even looked for."""
    (tmp_path / "file").touch()
    words = {"apply": ["structure.json"], "elastic": ["--depths", "[1]"], "extract": ["--depth", "1"],
             "shrink": ["--data", "speech", "--budget.params", "50%"]}.get(verb, [])  # fmt: skip
    with pytest.raises(SystemExit):
        main([verb, "no/model", *words, "--out", str(tmp_path / "file" / "out")])
    assert "Could not write" in capsys.readouterr().err


def test_saving_replaces_checkpoints_alone(whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "love.txt").write_text("dear")
    with pytest.raises(CheckpointError, match="exists and is no checkpoint, so it is not replaced"):
        save(parakeet(), None, tmp_path / "letters")
    shutil.copytree(whole, tmp_path / "model")
    save(parakeet(), None, tmp_path / "model")
    assert "the checkpoint there is replaced" in caplog.text


@pytest.mark.parametrize(
    ("weights", "others", "message"),
    [
        (False, ["metrics.jsonl", "best/config.json"], "exists and is no checkpoint, so it is not replaced"),
        (True, ["metrics.jsonl", "best/config.json"], "and would be deleted: best, metrics.jsonl;"),
        (True, ["report.html"], "would be deleted: report.html; choose another folder"),
        (True, ["training_args.bin", "merges.txt", "additional_chat_templates/one.jinja"], None),
    ],
)
def test_saving_deletes_nothing_but_a_checkpoint(
    whole: Path, tmp_path: Path, weights: bool, others: list[str], message: str | None
) -> None:
    """The folder of a run has a config.json, too; what transformers writes beside a model is replaced with it."""
    folder = tmp_path / "folder"
    shutil.copytree(whole, folder)
    for name in others:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    if not weights:
        (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=message) if message else nullcontext():
        save(parakeet(), None, folder)
    assert [(folder / name).exists() for name in others] == [message is not None] * len(others)


def test_types_of_weights_from_the_hub_are_checked_as_those_of_a_folder(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot of `someone/model` is the folder `copy`."""
    weights = load_file(copy / "model.safetensors")
    name = next(name for name in weights if name.endswith("linear1.weight"))
    save_file(weights | {name: weights[name].to(torch.int8)}, copy / "model.safetensors", {"format": "pt"})
    described = loading._described(str(copy))
    monkeypatch.setattr(loading, "_described", lambda _: described)
    monkeypatch.setattr(loading, "checkpoint_folder", lambda _: copy)
    with pytest.raises(CheckpointError, match=rf"'someone/model' cannot be used: {name} is of type I8"):
        load_model("someone/model")
