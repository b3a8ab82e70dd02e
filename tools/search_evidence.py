"""Compares CoMFLP with greedy removal, every other block and the last blocks: the same teacher, the same recovery.

    python tools/search_evidence.py run --data ../shared/data/digits --out runs/search --removes 3,6,8 --blocks 12
    python tools/search_evidence.py depth --data ../shared/data/digits --out runs/search --depths 6,12,24,48
    python tools/search_evidence.py table --out runs/search --title "..." --data "..." --note "..."

`run` trains a teacher of so many blocks (or takes --teacher), searches on the dev split with every method, lets each
choice recover by `recipes/prune.py` under the same settings, and evaluates it on the test split before and after. Equal
choices of several methods are trained once. `depth` counts word error rates and seconds of both searches on new models
of growing depth; their error rates mean nothing. `table` appends an entry to RESULTS.md. What is there already is not
made again, so each can be started anew at any time. A small trial, about three minutes on two cores:

    python tools/search_evidence.py run --data ../shared/data/digits --out runs/search-trial --blocks 4 --removes 2 \
        --teacher_steps 120 --recover_steps 20 --utterances 40 --top_k 3
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import torch
from add_result import RESULTS, append_entry, facts, head_commit
from evidence import LAUNCH, execute

from compress.checkpoint import load_processor, save
from compress.folders import write_json
from compress.training.models import ModelConfig, build_model, fresh_model
from compress.training.tokens import TokensConfig, build_processor

REPOSITORY = Path(__file__).resolve().parent.parent
STATE = "search-evidence.json"
PHASES = ("removed", "final")
LETTERS = ("abcdefghijklmnopqrstuvwxyz '",)
SMALL = {"hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128, "subsampling_conv_channels": 16}
"""A new model whose depth is what `depth` varies."""


def run(
    *,
    data: str,
    out: str,
    removes: str = "3,6,8",
    blocks: int = 12,
    teacher: str | None = None,
    train: str = "configs/train/parakeet-small_digits.yaml",
    teacher_steps: int | None = None,
    prune: str = "configs/demo/prune.yaml",
    recover_steps: int = 500,
    seeds: int = 1,
    measure: str = "distance_correlation",
    top_k: int = 10,
    utterances: int = 320,
    threads: int = 1,
) -> None:
    """Makes every search, model and report that is not there yet.

    Args:
        data: a folder with train, dev and test.
        out: folder for everything.
        removes: how many blocks go, with commas between.
        blocks: of the teacher that is trained.
        teacher: a model to compress; None trains one.
        train: config of the teacher.
        teacher_steps: of its training; None: the epochs of the config.
        prune: config of the recovery.
        recover_steps: of the recovery, the same for every method.
        seeds: of the recovery: 0 to this number, exclusive.
        measure: of the correlation.
        top_k: proposals that CoMFLP measures.
        utterances: of the dev set in the searches.
        threads: of each recovery.
    """
    folder = Path(out).absolute()
    _note(folder, {"run": _command(), "recover_steps": recover_steps})
    if teacher is None:
        teacher = str(folder / "teacher" / "best")
        _train(folder, train, data, blocks, teacher_steps)
    for remove in map(int, removes.split(",")):
        search = folder / f"search-{remove}"
        options = ("--measure", measure, "--top_k", str(top_k), "--utterances", str(utterances))
        _search(search, teacher, data, ("--remove", str(remove), "--method", "all", *options))
        for removed in sorted({tuple(one["removed"]) for one in _found(search)["methods"]}):
            for seed in range(seeds):
                _recover(folder, search, removed, seed, teacher, data, prune, recover_steps, threads)


def depth(
    *, data: str, out: str, depths: str = "6,12,24,48", utterances: int = 40, top_k: int = 10, greedy: bool = True
) -> None:
    """Searches new models of growing depth, half of whose blocks go.

    Args:
        data: a folder with dev.
        out: folder for everything.
        depths: numbers of blocks, with commas between.
        utterances: of the dev set.
        top_k: proposals that CoMFLP measures.
        greedy: whether greedy removal is run, too; otherwise its evaluations are computed only.
    """
    folder = Path(out).absolute()
    _note(folder, {"depth": _command()})
    for blocks in map(int, depths.split(",")):
        model = folder / f"depth-{blocks}" / "model"
        if not (model / "config.json").exists():
            _new_model(model, blocks)
        method = "comflp,greedy" if greedy else "comflp"
        options = ("--remove", str(blocks // 2), "--method", method, "--top_k", str(top_k))
        _search(folder / f"depth-{blocks}", str(model), data, (*options, "--utterances", str(utterances)))


def table(*, out: str, title: str, data: str, note: str = "", results: str = str(RESULTS)) -> None:
    """Appends the comparison to RESULTS.md.

    Args:
        out: the folder that `run` and `depth` filled.
        title: heading of the entry.
        data: the data set, splits, and what a reader must know about it.
        note: machine and remarks.
        results: the file to append to.
    """
    folder = Path(out).absolute()
    state = _state(folder)
    commands = " ; ".join(state[name] for name in ("run", "depth") if name in state)
    lines = facts(commands, data, note, commit=state.get("commit"))
    lines += [*_comparison(folder), *_depths(folder), *_remarks(state)]
    append_entry(Path(results), title, lines)


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return result


def _note(folder: Path, more: dict[str, Any]) -> None:
    """What was run here last, for `table`."""
    write_json(folder / STATE, _state(folder) | {"commit": head_commit()} | more)


def _train(folder: Path, config: str, data: str, blocks: int, steps: int | None) -> None:
    if (folder / "teacher" / "done.json").exists():
        return
    options = ["--config", config, "--data.source", data, "--output", str(folder / "teacher")]
    options += ["--model.settings.num_hidden_layers", str(blocks)]
    options += [] if steps is None else ["--max_steps", str(steps)]
    execute((*LAUNCH, "recipes/train.py", *options), folder / "teacher.log")


def _new_model(folder: Path, blocks: int) -> None:
    torch.manual_seed(0)
    processor = build_processor("parakeet", list(LETTERS), TokensConfig())
    config = ModelConfig(family="parakeet", settings={**SMALL, "num_hidden_layers": blocks})
    tokenizer = processor.tokenizer
    model = build_model(config, vocabulary_size=len(tokenizer), blank=int(tokenizer.pad_token_id))
    save(fresh_model(model), processor, folder)
    load_processor(str(folder))


def _search(out: Path, model: str, data: str, options: Sequence[str]) -> None:
    if not (out / "search.json").exists():
        command = (sys.executable, "-m", "compress", "search", model, "--data", data, "--out", str(out), *options)
        execute(command, out.with_suffix(".log"))


def _recover(
    folder: Path, search: Path, removed: Sequence[int], seed: int, teacher: str, data: str, prune: str, steps: int,
    threads: int,
) -> None:  # fmt: skip
    """One choice, recovered and evaluated on the test split before and after."""
    output = _place(folder, removed, seed)
    method = next(one["method"] for one in _found(search)["methods"] if one["removed"] == list(removed))
    options = ["--config", prune, "--teacher", teacher, "--data.source", data, "--output", str(output)]
    options += ["--structure", str(search / "structures" / f"{method}.json"), "--budget", "null"]
    options += ["--recover.steps", str(steps), "--seed", str(seed), "--threads", str(threads)]
    if not (output / "done.json").exists():
        execute((*LAUNCH, "recipes/prune.py", *options), output.with_suffix(".log"))
    for phase in PHASES:
        report = output / f"report-{phase}"
        if not (report / "report.json").exists():
            given = ("--data", data, "--baseline", teacher, "--out", str(report), "--speed.repetitions", "1")
            command = (sys.executable, "-m", "compress", "evaluate", str(output / phase), *given)
            execute(command, output.with_suffix(".log"))
    wer = [f"{_report(output, phase)['model']['wer']:.2%}" for phase in PHASES]
    print(f"without {', '.join(map(str, removed))}, seed {seed}: WER {wer[0]} before, {wer[1]} after", flush=True)


def _place(folder: Path, removed: Sequence[int], seed: int) -> Path:
    return folder / ("without-" + "-".join(map(str, removed))) / f"seed-{seed}"


def _found(search: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((search / "search.json").read_text())
    return result


def _report(output: Path, phase: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((output / f"report-{phase}" / "report.json").read_text())
    return result


def _searches(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    found = [_found(path.parent) for path in folder.glob(f"{kind}-*/search.json")]
    yield from sorted(found, key=lambda one: (one["blocks"], one["remove"]))


def _comparison(folder: Path) -> list[str]:
    head = ("removed", "method", "which", "dev WER %", "test WER % before", "after recovery", "evaluations", "seconds")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for search in _searches(folder, "search"):
        for one in search["methods"]:
            which = ", ".join(map(str, one["removed"]))
            outputs = sorted(_place(folder, one["removed"], 0).parent.glob("seed-*/report-final"))
            before, after = (_shown([_report(path.parent, phase) for path in outputs]) for phase in PHASES)
            numbers = f"{100 * one['wer']:.2f} | {before} | {after} | {one['evaluations']} | {one['seconds']:.1f}"
            lines.append(f"| {search['remove']} of {search['blocks']} | {one['method']} | {which} | {numbers} |")
    return [*lines, ""] if len(lines) > 2 else []


def _shown(reports: Sequence[dict[str, Any]]) -> str:
    """Mean over the seeds; the interval of a single one, or every one."""
    rates = [100 * report["model"]["wer"] for report in reports]
    if not rates:
        return ""
    if len(rates) > 1:
        return f"{sum(rates) / len(rates):.2f} ({', '.join(f'{rate:.2f}' for rate in rates)})"
    low, high = (100 * value for value in reports[0]["model"]["wer_ci95"])
    return f"{rates[0]:.2f} ({low:.2f} to {high:.2f})"


def _depths(folder: Path) -> list[str]:
    head = ("blocks", "removed", "method", "evaluations", "block runs", "without reuse", "seconds")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for search in _searches(folder, "depth"):
        for one in search["methods"]:
            numbers = f"{one['evaluations']} | {one['block_runs']} | {one['block_runs_alone']} | {one['seconds']:.1f}"
            lines.append(f"| {search['blocks']} | {search['remove']} | {one['method']} | {numbers} |")
    return [*lines, ""] if len(lines) > 2 else []


def _remarks(state: dict[str, Any]) -> list[str]:
    steps = f" of {state['recover_steps']} steps" if state.get("recover_steps") else ""
    return [
        "Dev WER is what a search saw; test WER is of the model without the blocks, before and after a recovery"
        f"{steps}, with 95 % bootstrap intervals over utterances, or every seed. The seconds of a search include the "
        "matrix, and not the reading of the model. Models of the table by depth are new: only its counts and seconds "
        "mean anything."
    ]


def _command() -> str:
    words = (os.path.relpath(word, REPOSITORY) if os.path.isabs(word) else word for word in sys.argv)
    return " ".join(["python", *words])


if __name__ == "__main__":
    jsonargparse.auto_cli([run, depth, table], as_positional=False)
