"""transformers.js recognises speech with a pruned model, in node and on a page in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from compress.checkpoint.exported import Export, ExportError
from compress.exporting.export import export
from compress.exporting.settings import ExportConfig
from tests.helpers.exports import save_talkative, wave_files, written_by_torch
from tests.helpers.launching import make_split
from tests.helpers.sharing import shared
from tools.web import packages, pages
from tools.web.browser import find_chromium
from tools.web.running import in_browser, in_node

pytest.importorskip("onnxruntime", reason="exports need the extra: .[export]")
UTTERANCES = 2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that talks all the time, its exports in float32 and int8, and speech."""

    def make(folder: Path) -> None:
        save_talkative(folder / "model")
        for precision in ("float32", "int8"):
            wanted = ExportConfig(model=str(folder / "model"), out=str(folder / precision), client=pages.CLIENT)
            export(wanted if precision == "float32" else ExportConfig(**{**vars(wanted), "int8": True}))
        make_split(folder / "dev", UTTERANCES, seed=3)

    return shared(tmp_path_factory, "exported-for-javascript", make)


def exported(place: Path, precision: str) -> Export:
    return pages.readable_export(place / precision)


def require(*programs: str) -> None:
    if problem := packages.lacking(*programs):
        pytest.skip(problem)


def test_node_writes_what_pytorch_writes(place: Path) -> None:
    require("node")
    files = wave_files(str(place))
    expected = written_by_torch(str(place / "model"), files)
    speech = [soundfile.read(file, dtype="float32")[0] for file in files]
    assert len("".join(expected)) > 10 * len(files)
    assert in_node(exported(place, "float32"), speech) == expected


def test_a_page_recognises_speech_with_eight_bits_and_asks_nobody_else(place: Path, tmp_path: Path) -> None:
    require()
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium is installed")
    files = wave_files(str(place))
    pages.write_page(exported(place, "int8"), tmp_path / "page", files)
    texts, visited = in_browser(chromium, tmp_path / "page", len(files))
    expected = written_by_torch(str(place / "model"), files)
    assert sum(map(len, texts)) == pytest.approx(sum(map(len, expected)), rel=0.3)
    assert visited.values["about"].startswith("model, int8, 0.")
    assert {address.split("/")[2] for address in visited.requests} == {visited.requests[0].split("/")[2]}


def test_a_page_holds_the_model_and_what_it_is(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MODULES", tmp_path / "packages")
    for name in pages.LIBRARY:
        (tmp_path / "packages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "packages" / name).touch()
    made = exported(place, "int8")
    pages.write_page(made, tmp_path / "page", wave_files(str(place)))
    about = json.loads((tmp_path / "page" / "page.json").read_text())
    assert about == {
        "name": "model", "precision": "int8", "dtype": "q8", "bytes": made.bytes_on_disk, "sampling_rate": 16000,
        "examples": ["0.wav", "1.wav"],
    }  # fmt: skip
    model = tmp_path / "page" / "models" / "model"
    assert (model / "onnx" / "model_quantized.onnx").stat().st_size == made.bytes_on_disk
    assert not (model / "source").exists()
    assert {path.name for path in (tmp_path / "page" / "lib").iterdir()} == {Path(name).name for name in pages.LIBRARY}


def test_an_export_for_another_client_is_refused(place: Path, tmp_path: Path) -> None:
    facts = json.loads((place / "int8" / "export.json").read_text()) | {"client": "onnx-asr", "graphs": ["export.json"]}
    (tmp_path / "export.json").write_text(json.dumps(facts))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "config.json").write_text("{}")
    with pytest.raises(
        ExportError, match=r"exported for onnx-asr, and the page runs transformers\.js: compress export"
    ):
        pages.readable_export(tmp_path)
