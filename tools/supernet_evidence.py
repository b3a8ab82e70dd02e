"""Compares the sizes of supernets with models trained alone at those sizes, and learned selections with given orders.

    python tools/supernet_evidence.py run --data ../shared/data/digits --out runs/supernet --seeds 3
    python tools/supernet_evidence.py table --out runs/supernet --title "..." --data "..." --note "..."

For every seed `run` trains a supernet with every selection (`recipes/train_supernet.py`), and with `recipes/train.py`,
for as many updates under the same settings, the whole model and, from new weights, the model of each size that the
selections in --alone have chosen. Each size and each model is evaluated on the test split. `table` appends an entry to
RESULTS.md. What is there already is not made again, so each can be started anew at any time. A small trial:

    python tools/supernet_evidence.py run --data ../shared/data/digits --out runs/supernet-trial --seeds 1 \\
        --methods top_k,random --options "--max_steps 20 --dev_limit 20 --batch.seconds 20"
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from threading import Lock
from typing import Any

import jsonargparse
import torch
import yaml
from add_result import RESULTS, append_entry, facts, head_commit
from evidence import Cell
from running import LAUNCH, execute, typed
from transformers.utils.logging import disable_progress_bar

from compress.checkpoint import load_model, load_processor, save
from compress.elastic import standalone
from compress.files.writing import write_json
from compress.training.new_models import fresh_model

REPOSITORY = Path(__file__).resolve().parent.parent
STATE = "supernet-evidence.json"
SUPERNET_ONLY = ("output", "sizes", "parts", "selection", "joint")
"""Settings that recipes/train.py does not have."""
PLAIN, ALONE = "plain", "alone"
DRAWING = Lock()  # new weights come from one generator
OPTIONS = {"zero_out": ("--selection.learning_rate", "0.1")}
"""What a selection needs in runs as short as these (see `SelectionConfig`). Tried with and without on a trained model,
180 steps, one seed: 13 % WER of the size 33 % on 60 dev utterances instead of 23 %."""
TITLES = {
    "top_k": "Simple-Top-k",
    "zero_out": "Iterative-Zero-Out",
    "ortho_softmax": "OrthoSoftmax",
    "random": "random order",
    "every_other_block": "every other block",
}


def run(
    *,
    data: str,
    out: str,
    train: str = "configs/supernet/parakeet-small_digits.yaml",
    methods: str = "top_k,zero_out,random,every_other_block",
    alone: str = "top_k",
    seeds: int = 3,
    options: str = "",
    jobs: int = 1,
    threads: int = 1,
) -> None:
    """Makes every model and every report that is not there yet.

    Args:
        data: a folder with train, dev and test, or `synthetic`.
        out: folder for everything.
        train: config of the supernets; the models trained alone take from it all that both recipes have.
        methods: selections, with commas between.
        alone: those of them whose sizes are trained alone, too.
        seeds: seeds 0 to this number, exclusive.
        options: of both recipes, e.g. "--max_steps 2000".
        jobs: how many seeds at a time.
        threads: of each run.
    """
    disable_progress_bar()
    folder = Path(out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    ways = {"methods": methods.split(","), "alone": alone.split(",") if alone else []}
    write_json(folder / STATE, {"commit": head_commit(), "command": typed()} | ways)
    settings = yaml.safe_load((REPOSITORY / train).read_text())
    plain = folder / "plain.yaml"
    plain.write_text(yaml.safe_dump({key: value for key, value in settings.items() if key not in SUPERNET_ONLY}))

    def one(seed: int) -> None:
        shared = ("--data.source", data, "--seed", str(seed), "--threads", str(threads), *shlex.split(options))
        whole = _place(folder, PLAIN, seed)
        _train("recipes/train.py", plain, whole, shared)
        _evaluate(whole / "best", whole, whole / "best", data)
        for method in ways["methods"]:
            _supernet(folder, method, seed, train, shared, data)
        for method in ways["alone"]:
            _each_alone(folder, method, seed, plain, shared, data)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, range(seeds)))


def _supernet(folder: Path, method: str, seed: int, config: str, shared: Sequence[str], data: str) -> None:
    """A supernet, and each of its sizes as a model of its own, evaluated."""
    output = _place(folder, method, seed)
    _train(
        "recipes/train_supernet.py",
        Path(config),
        output,
        ("--selection.method", method, *OPTIONS.get(method, ()), *shared),
    )
    for name in _sizes(output):
        place = output / "sizes" / name
        if not (place / "model" / "config.json").exists():
            elastic, processor = load_model(str(output / "best")), load_processor(str(output / "best"))
            save(standalone(elastic, name), processor, place / "model")
        _evaluate(place / "model", place, _place(folder, PLAIN, seed) / "best", data)


def _each_alone(folder: Path, method: str, seed: int, plain: Path, shared: Sequence[str], data: str) -> None:
    """What each size below the full one keeps, trained from new weights by itself."""
    chosen = _place(folder, method, seed) / "sizes"
    for name in _sizes(_place(folder, method, seed))[:-1]:
        output = _alone(folder, method, name, seed)
        begin, settings = output / "new", yaml.safe_load(plain.read_text())
        if not (begin / "config.json").exists():
            with DRAWING:
                torch.manual_seed(seed)
                model = fresh_model(load_model(str(chosen / name / "model")))
            save(model, load_processor(str(chosen / name / "model")), begin)
        config = output / "alone.yaml"
        config.write_text(yaml.safe_dump(settings | {"model": {"checkpoint": str(begin)}}))
        _train("recipes/train.py", config, output, shared)
        _evaluate(output / "best", output, _place(folder, PLAIN, seed) / "best", data)


def _train(recipe: str, config: Path, output: Path, options: Sequence[str]) -> None:
    if not (output / "done.json").exists():
        execute(
            (*LAUNCH, recipe, "--config", str(config), "--output", str(output), *options), output.with_suffix(".log")
        )


def _evaluate(model: Path, place: Path, baseline: Path, data: str) -> None:
    """The report on the test split; the baseline is the whole model, trained plainly with the same seed."""
    if (place / "report" / "report.json").exists():
        return
    given = ("--data", data, "--baseline", str(baseline), "--out", str(place / "report"), "--speed.repetitions", "1")
    execute((sys.executable, "-m", "compress", "evaluate", str(model), *given), place.with_suffix(".log"))
    report = json.loads((place / "report" / "report.json").read_text())
    print(f"{place}: WER {report['model']['wer']:.2%}", flush=True)


def table(*, out: str, title: str, data: str, note: str = "", results: str = str(RESULTS)) -> None:
    """Appends the comparison to RESULTS.md.

    Args:
        out: the folder that `run` filled.
        title: heading of the entry.
        data: the data set, splits, and what a reader must know about it.
        note: machine and remarks.
        results: the file to append to.
    """
    folder = Path(out).absolute()
    state = json.loads((folder / STATE).read_text())
    seeds = sorted(path.name.removeprefix("seed-") for path in (folder / PLAIN).glob("seed-*") if path.is_dir())
    lines = facts(state["command"], f"{data}; seeds {', '.join(seeds)}", note, commit=state["commit"])
    lines += [*_comparison(folder, state), *_times(folder, state), *_remarks()]
    append_entry(Path(results), title, lines)


def _comparison(folder: Path, state: dict[str, Any]) -> Iterator[str]:
    """Every size of every selection, beside the model of that size that was trained alone."""
    head = ("size", "how", "WER %", "parameters", "MACs", "minus trained alone", "minus random order")
    yield from ("| " + " | ".join(head) + " |", "|" + "---|" * len(head))
    plain = _cell(folder / PLAIN, "seed-*")
    names = _sizes(next(iter(sorted((folder / state["methods"][0]).glob("seed-*")))))
    for name in reversed(names):
        by_chance = _cell(folder / "random", f"seed-*/sizes/{name}")
        for method in state["methods"]:
            cell = _cell(folder / method, f"seed-*/sizes/{name}")
            alone = plain if name == names[-1] else _cell(folder / ALONE / method / name, "seed-*")
            minus = by_chance if method != "random" else None
            yield _row(name, f"supernet, {TITLES[method]}", cell, alone, minus)
            if method in state["alone"] and name != names[-1]:
                yield _row(name, f"alone, as {TITLES[method]} chose", alone, None, None)
        if name == names[-1]:
            yield _row(name, "plain training", plain, None, None)
    yield ""


def _row(size: str, how: str, cell: Cell | None, *others: Cell | None) -> str:
    if cell is None:
        return f"| {size} | {how} | not run | | | | |"
    parameters = round(fmean(report["model"]["parameters"]["total"] for report in cell.reports))
    macs = fmean(report["ratio"]["macs"] for report in cell.reports)
    differences = " | ".join("" if other is None else cell.against(other.errors) for other in others)
    return f"| {size} | {how} | {cell.show()} | {parameters:,} | {macs:.0%} | {differences} |"


def _times(folder: Path, state: dict[str, Any]) -> Iterator[str]:
    """The training time of each supernet over the sum of those of the models trained alone."""
    whole = _mean_seconds(folder / PLAIN)
    for method in state["alone"]:
        alone = [_mean_seconds(path) for path in sorted((folder / ALONE / method).iterdir())]
        supernet, models = _mean_seconds(folder / method), len(alone) + 1
        yield (
            f"Training time, {TITLES[method]}: {supernet:.0f} s for the supernet, {whole + sum(alone):.0f} s for the "
            f"{models} models of its sizes one by one: {supernet / (whole + sum(alone)):.2f} times."
        )


def _mean_seconds(folder: Path) -> float:
    """Seconds in steps, evaluation left out, mean over the seeds."""
    every = [json.loads(path.read_text()) for path in folder.glob("seed-*/done.json")]
    return fmean(
        sum(done[stage]["seconds"] for stage in ("select", "joint")) if "joint" in done else done["seconds"]
        for done in every
    )


def _remarks() -> list[str]:
    return [
        "",
        "All of a seed had the same number of updates, batches of the same speech, and the same schedule; an update of "
        "a supernet has two or three forward passes. WER of the test split: **mean over the seeds** (95 % bootstrap "
        "interval over utterances, errors pooled over the seeds); the WER of each seed. Differences are paired, in "
        "points of WER: below 0 the supernet is better. MACs are of those of the whole model.",
    ]


def _cell(folder: Path, pattern: str) -> Cell | None:
    return Cell.of(path.parent.parent for path in folder.glob(f"{pattern}/report/report.json"))


def _sizes(output: Path) -> list[str]:
    """The sizes of a supernet, smallest first."""
    return list(json.loads((output / "done.json").read_text())["sizes"])


def _place(folder: Path, way: str, seed: int) -> Path:
    return folder / way / f"seed-{seed}"


def _alone(folder: Path, method: str, size: str, seed: int) -> Path:
    return _place(folder / ALONE / method, size, seed)


if __name__ == "__main__":
    jsonargparse.auto_cli([run, table], as_positional=False)
