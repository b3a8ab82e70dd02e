"""What an export is: a folder with graphs, whatever a client wants beside them, and export.json, which explains it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.files.reading import Form, read_object

EXPORT_FILE = "export.json"
EXPORT_FORMAT = 1
FLOAT32, INT8 = "float32", "int8"
"""Precisions of an export."""
SOURCE_FOLDER = "source"
"""Below an export: config and processor of the model as they were, and what is known of its compression."""
_FORM: Form = {"format": int, "model.name": str, "client": str, "precision": str, "signature": str, "graphs": list}
_CHUNK = 1 << 20


class ExportError(ValueError):
    """A model that cannot be exported, or an export that cannot be used."""


@dataclass(frozen=True)
class Export:
    """A folder that was exported to.

    Attributes:
        folder: itself.
        facts: what export.json says.
    """

    folder: Path
    facts: dict[str, Any]

    @property
    def source(self) -> str:
        """The folder with the model's config and processor."""
        return str(self.folder / SOURCE_FOLDER)

    @property
    def graph(self) -> Path:
        """The first graph, which is the model or its encoder."""
        return self.folder / str(self.facts["graphs"][0])

    @property
    def files(self) -> list[Path]:
        """Every graph with the file of its weights, if it has one of its own."""
        return [path for name in self.facts["graphs"] for path in files_of_graph(self.folder / name)]

    @property
    def bytes_on_disk(self) -> int:
        """What graphs and weights take."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def digest(self) -> str:
        """SHA-256 over the graphs and their weights."""
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
        return digest.hexdigest()


def is_export(name: str) -> bool:
    """Says whether a user's word for a model is a folder that was exported to."""
    return Path(name, EXPORT_FILE).is_file()


def read_export(folder: str | Path) -> Export:
    """Reads what an export says of itself.

    Raises:
        ReadError: if export.json is damaged.
        ExportError: if it is of a later format, or a graph is missing.
    """
    path = Path(folder, EXPORT_FILE)
    export = Export(Path(folder), read_object(path, _FORM))
    if export.facts["format"] != EXPORT_FORMAT:
        raise ExportError(
            f"{path} is of format {export.facts['format']}, and this program reads {EXPORT_FORMAT}: export the model "
            "again, or take the program that wrote it."
        )
    names = export.facts["graphs"]
    if not names or not all(isinstance(name, str) and is_within(name) for name in names):
        raise ExportError(f"{path}: graphs is {names!r}; it lists the files of the graphs, below this folder.")
    for name in (*names, f"{SOURCE_FOLDER}/config.json"):
        if not (export.folder / name).is_file():
            raise ExportError(f"{folder} lacks {name}, which belongs to an export: export the model again.")
    return export


def is_within(name: str) -> bool:
    """Says whether a name of a file stays below the folder that it is meant in."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def weights_file(graph: Path) -> Path:
    """Where the weights of a graph lie that is too large to hold them."""
    return graph.with_name(f"{graph.name}_data")


def files_of_graph(graph: Path) -> list[Path]:
    """A graph, and the file of its weights if it has one."""
    return [path for path in (graph, weights_file(graph)) if path.is_file()]
