"""A page that recognises speech in the browser, from an export and a static server; and what node and it write down.

    python -m tools.web_page build --export exported --out page --audio [one.wav,two.wav]
    python -m tools.web_page compare --model MODEL --source data/digits --data "connected digits, test split" \\
        --utterances 20 --title "In JavaScript: node and a browser"
    python -m tools.web_page install

`build` writes the page: our own HTML and script, the runtime, which npm installs into build/web when it is not there
(`install` does only that), and an export of `compress export --client transformers.js`. The page sends nothing
anywhere. `compare` exports a model with float32 and 8-bit weights, lets transformers.js write down utterances in node
and in the page, opened in headless Chromium, and appends an entry that says how their texts differ from PyTorch's.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch

from compress.checkpoint import load_recogniser
from compress.checkpoint.exported import Export
from compress.config import check_at_least
from compress.data import SpeechConfig, SpeechDataset, extract_features, feature_extractor_of, open_speech
from compress.evaluation.metrics import error_rates
from compress.evaluation.transcribe import best_tokens
from compress.exporting.export import export
from compress.exporting.settings import ExportConfig
from compress.files.writing import MEBIBYTE
from tools.commands import main, typed
from tools.results import RESULTS, EntryConfig, add, facts, grid
from tools.web import packages
from tools.web.browser import find_chromium
from tools.web.pages import CLIENT, readable_export, write_page
from tools.web.running import in_browser, in_node


@dataclass(frozen=True, kw_only=True)
class InstallConfig:
    """Nothing can be chosen."""


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """A page.

    Attributes:
        export: Folder that was exported to, for transformers.js.
        out: Folder of the page; an older one is replaced.
        audio: Recordings, for each of which the page has a button.
    """

    export: str
    out: str
    audio: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CompareConfig(EntryConfig):
    """What is written down, and the entry that says how.

    Attributes:
        model: A Parakeet checkpoint.
        source: The speech.
        split: Of it.
        utterances: How many, drawn at random.
        data: What a reader must know about it.
    """

    model: str
    source: str
    split: str = "test"
    utterances: int = 20
    data: str
    title: str = "In JavaScript: node and a browser"
    results: str | None = str(RESULTS)

    def __post_init__(self) -> None:
        check_at_least("utterances", self.utterances, 1)


def install(config: InstallConfig) -> None:
    """Installs the runtime."""
    packages.install()


def build(config: BuildConfig) -> None:
    """Writes a page."""
    exported = readable_export(config.export)
    packages.install()
    write_page(exported, config.out, config.audio)
    print(f"python -m http.server --directory {config.out}    serves it: http://localhost:8000")


def compare(config: CompareConfig) -> None:
    """Writes speech down in every way, and appends an entry."""
    packages.install()
    if problem := packages.lacking("node"):
        raise ValueError(problem)
    model, processor = load_recogniser(config.model)
    rate = int(feature_extractor_of(processor).sampling_rate)
    speech = open_speech(SpeechConfig(source=config.source, split=config.split), sampling_rate=rate)
    speech = speech.sample(config.utterances)
    texts = {("PyTorch", "float32"): _by_torch(model, processor, speech)}
    sizes = {("PyTorch", "float32"): sum(file.stat().st_size for file in Path(config.model).glob("*.safetensors"))}
    with tempfile.TemporaryDirectory() as place:
        for precision in ("float32", "int8"):
            wanted = ExportConfig(
                model=config.model, out=str(Path(place, precision)), client=CLIENT, int8=precision == "int8"
            )
            exported = export(wanted)
            samples = [utterance.samples for utterance in speech]
            texts["transformers.js in node", precision] = in_node(exported, samples)
            texts["the page in Chromium", precision] = _by_page(exported, speech, Path(place, f"page-{precision}"))
            sizes |= {key: exported.bytes_on_disk for key in texts if key not in sizes}
    lines = table(texts, sizes, speech.texts)
    print("\n".join(lines))
    add(config, [*facts(typed(), config.data, " ".join([_versions(), config.note]).strip()), *lines])


def _by_torch(model: Any, processor: Any, speech: SpeechDataset) -> list[str]:
    texts = []
    for utterance in speech:
        inputs = extract_features(feature_extractor_of(processor), [utterance.samples], speech.sampling_rate)
        with torch.no_grad():
            texts += processor.batch_decode(best_tokens(model, inputs))
    return texts


def _by_page(exported: Export, speech: SpeechDataset, page: Path) -> list[str]:
    chromium = find_chromium()
    if chromium is None:
        raise ValueError("no Chromium is installed, in which the page could be opened")
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place, f"{number}.wav") for number in range(len(speech))]
        for file, utterance in zip(files, speech, strict=True):
            soundfile.write(file, utterance.samples, speech.sampling_rate, subtype="FLOAT")
        write_page(exported, page, files)
    return in_browser(chromium, page, len(files))[0]


def table(
    texts: dict[tuple[str, str], list[str]], sizes: dict[tuple[str, str], int], references: list[str | None]
) -> list[str]:
    """How each way wrote, and the longest utterance in full; the first way is what the others are compared with."""
    said = [reference or "" for reference in references]
    longest = max(range(len(said)), key=lambda number: len(said[number]))
    first = next(iter(texts.values()))
    rows = [
        (
            *way,
            f"{sizes[way] / MEBIBYTE:.2f}",
            f"{100 * error_rates(said, written).wer:.2f}",
            str(sum(ours != theirs for ours, theirs in zip(written, first, strict=True))),
            written[longest],
        )
        for way, written in texts.items()
    ]
    head = ("run by", "precision", "MiB", "WER %", "texts that differ from PyTorch's", "the longest utterance")
    return [*grid(head, rows), f"{len(said)} utterances; the longest is: {said[longest]}"]


def _versions() -> str:
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    chromium = subprocess.run([str(find_chromium()), "--version"], capture_output=True, text=True, check=True).stdout
    return f"node {node}, {packages.RUNTIME} {packages.asked_version()}, {' '.join(chromium.split()[:2])};"


if __name__ == "__main__":
    main(install, build, compare)
