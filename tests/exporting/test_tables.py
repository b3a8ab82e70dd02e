"""The tools that compare exports with their models: on one tiny model, their tables hold what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.exports import save_talkative
from tests.helpers.sharing import shared
from tools.experiments import clients, exports


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Parakeet that says something all the time."""

    def make(folder: Path) -> None:
        save_talkative(folder / "model")

    return str(shared(tmp_path_factory, "talkative", make) / "model")


def test_models_and_their_exports_in_one_table(
    model: str, tones: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "RESULTS.md"
    config = exports.ExportsConfig(
        folder=str(tmp_path), models=(model,), timed=(model,), source=tones, data="tones", seconds=0.5, repetitions=1,
        threads=(1,), results=str(results),
    )  # fmt: skip
    exports.compare(config)
    text = results.read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| model | ") and "ms" not in line]
    assert [row[1] for row in rows] == [*exports.WAYS, *exports.WAYS]
    assert rows[0][4] == rows[1][4] != ""
    assert {row[4] for row in rows[3:]} == {""}
    assert text.count("of the first model's bytes (goal: at most 8)") == 2
    assert text.count("relative to its own in PyTorch") == 1
    assert text in f"{text}{capsys.readouterr().out}"


def test_an_export_of_other_weights_is_not_taken(model: str, tmp_path: Path) -> None:
    place = tmp_path / model.strip("./").replace("/", "-") / "plain" / "float32"
    place.mkdir(parents=True)
    (place / "source").symlink_to(model)
    (place / "export.json").write_text(
        '{"format": 1, "model": {"name": "m", "weights_sha256": "0"}, "client": "plain", "precision": "float32", '
        '"signature": "transformers", "graphs": ["export.json"]}'
    )
    with pytest.raises(exports.ExportError, match="exported from other weights"):
        exports.export_of(str(tmp_path), model, int8=False)


def test_clients_beside_pytorch(model: str, tones: str, tmp_path: Path) -> None:
    pytest.importorskip("onnx_asr", reason="needs the extra: .[export]")
    pytest.importorskip("sherpa_onnx", reason="needs the extra: .[export]")
    results = tmp_path / "RESULTS.md"
    config = clients.ClientsConfig(
        folder=str(tmp_path), models=(model,), source=tones, limit=2, data="tones", results=str(results)
    )
    clients.compare(config)
    text = results.read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| model \| (?!run)", line)]
    assert [row[1:3] for row in rows[1:]] == [
        [client, precision] for client in clients.CLIENTS for precision in ("float32", "int8")
    ]
    assert rows[1][-1] == "0 of 2"
    assert rows[1][-2].startswith("+0.00")
