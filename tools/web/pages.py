"""The page that recognises speech: our own sources, the runtime, and one export, in a folder for any static server."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from compress.checkpoint.exported import SOURCE_FOLDER, Export, ExportError, read_export
from compress.files.paths import last_part
from compress.files.reading import read_object
from compress.files.writing import replaced_folder, write_json
from tools.web.packages import MODULES, SOURCES

CLIENT = "transformers.js"
DTYPES = {"float32": "fp32", "int8": "q8"}
"""What the client calls the precisions of exports."""
LIBRARY = (
    "@huggingface/transformers/dist/transformers.web.min.js",
    "onnxruntime-web/dist/ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
)


def readable_export(folder: str | Path) -> Export:
    """Reads an export that transformers.js can run.

    Raises:
        ExportError: if it was made for another client, or is damaged.
    """
    export = read_export(folder)
    if export.facts["client"] != CLIENT:
        raise ExportError(
            f"{folder} was exported for {export.facts['client']}, and the page runs {CLIENT}: "
            f"compress export MODEL --out DIR --client {CLIENT} --int8"
        )
    return export


def write_page(export: Export, out: str | Path, audio: Sequence[str | Path] = ()) -> None:
    """Writes the page.

    Args:
        export: for transformers.js.
        out: folder of the page; an older one is replaced.
        audio: recordings, for each of which the page has a button.
    """
    name = last_part(export.facts["model"]["name"])
    with replaced_folder(out) as folder:
        shutil.copytree(SOURCES / "page", folder, dirs_exist_ok=True)
        for place in ("lib", "examples"):
            (folder / place).mkdir()
        for file in LIBRARY:
            shutil.copy(MODULES / file, folder / "lib")
        for recording in audio:
            shutil.copy(recording, folder / "examples")
        shutil.copytree(export.folder, folder / "models" / name, ignore=shutil.ignore_patterns(SOURCE_FOLDER))
        write_json(folder / "page.json", _about(export, name, audio))


def _about(export: Export, name: str, audio: Sequence[str | Path]) -> dict[str, object]:
    """What the page reads of its model."""
    precision = export.facts["precision"]
    return {
        "name": name,
        "precision": precision,
        "dtype": DTYPES[precision],
        "bytes": export.bytes_on_disk,
        "sampling_rate": read_object(export.folder / "preprocessor_config.json")["sampling_rate"],
        "examples": [Path(recording).name for recording in audio],
    }
