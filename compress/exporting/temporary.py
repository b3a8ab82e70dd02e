"""An export that lasts as long as it is looked at."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.checkpoint.exported import Export, is_export
from compress.exporting.export import export
from compress.exporting.settings import ExportConfig


@contextmanager
def exported_for(model: str, runtime: str) -> Iterator[Export | None]:
    """Exports a model to a temporary folder where a runtime of others is to run it.

    Args:
        model: folder or Hub name; an export runs as it is.
        runtime: "torch" or "onnx".

    Yields:
        The export; None if none is needed.

    Raises:
        ExportError: if the model cannot be exported.
    """
    if runtime == "torch" or is_export(model):
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        yield export(ExportConfig(model=model, out=str(Path(folder, "export"))))
