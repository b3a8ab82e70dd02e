"""Runs exports in node, and the page in a headless browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.checkpoint.exported import Export
from tools.web.browser import Visit, visit
from tools.web.packages import BUILD, SOURCES
from tools.web.pages import DTYPES

NOTHING = "(nothing)"
WIDTH = 800
_READY = """(async () => {
  while (document.querySelector("#record").disabled) {
    const said = document.querySelector("#about").textContent;
    if (said.startsWith("The model cannot")) throw new Error(said);
    await new Promise((done) => setTimeout(done, 20));
  }
  return document.querySelector("#about").textContent;
})()"""
_CLICK = """(async () => {
  const output = document.querySelector("output");
  document.querySelectorAll("#examples button")[@].click();
  output.textContent = "";
  while (!output.textContent) await new Promise((done) => setTimeout(done, 20));
  return output.textContent;
})()"""


def in_node(export: Export, speech: Sequence[NDArray[np.float32]]) -> list[str]:
    """What transformers.js writes down in node.

    Args:
        export: for transformers.js.
        speech: samples of each utterance, at the model's rate.

    Raises:
        ValueError: with what node said, if it fails.
    """
    script = shutil.copy(SOURCES / "recognise.mjs", BUILD)
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place, f"{number}.f32") for number in range(len(speech))]
        for file, samples in zip(files, speech, strict=True):
            samples.astype("<f4").tofile(file)
        folder = export.folder.resolve()
        words = ["node", str(script), f"{folder.parent}/", folder.name, DTYPES[export.facts["precision"]]]
        done = subprocess.run([*words, *map(str, files)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"node could not run {export.folder}:\n{done.stderr.strip()}")
    texts: list[str] = json.loads(done.stdout.splitlines()[-1])
    return texts


def in_browser(chromium: str, page: Path, examples: int) -> tuple[list[str], Visit]:
    """Opens a page, and clicks on its examples one after another.

    Args:
        chromium: the browser's program.
        page: its folder, which a static server of this process serves.
        examples: how many it has.

    Returns:
        What it wrote down, and everything else that happened.
    """
    expressions = {"about": _READY, **{str(number): _CLICK.replace("@", str(number)) for number in range(examples)}}
    with served(page) as address, tempfile.TemporaryDirectory() as profile:
        visited = visit(chromium, address, Path(profile), WIDTH, expressions)
    texts = [str(visited.values[str(number)]) for number in range(examples)]
    return ["" if text == NOTHING else text for text in texts], visited


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves the files of a folder on this machine; gives the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing of each request."""
