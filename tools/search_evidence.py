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

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import running
import torch
from add_result import RESULTS, append_entry, facts
from running import (
    LAUNCH,
    PERCENT,
    counted,
    evaluate,
    execute,
    grid,
    paired,
    rate,
    read,
    recall,
    remember,
    search,
    typed,
)

from compress.checkpoint import load_processor, save
from compress.training.new_models import ModelConfig, build_model, fresh_model
from compress.training.tokens import TokensConfig, build_processor

STATE = "search-evidence.json"
PHASES = ("removed", "final")
RIVAL = "greedy"
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
    recover_options: str = "",
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
        recover_options: more of its options, e.g. "--recover.learning_rate 5e-4".
        seeds: of the recovery: 0 to this number, exclusive.
        measure: of the correlation.
        top_k: proposals that CoMFLP measures.
        utterances: of the dev set in the searches.
        threads: of each recovery.
    """
    folder = Path(out).absolute()
    remember(folder / STATE, run=typed(), recover_steps=recover_steps)
    if teacher is None:
        teacher = str(folder / "teacher" / "best")
        length = () if teacher_steps is None else ("--max_steps", str(teacher_steps))
        running.train(train, data, folder / "teacher", "--model.settings.num_hidden_layers", str(blocks), *length)
    given = ("--config", prune, "--teacher", teacher, "--data.source", data, "--budget", "null")
    given += ("--recover.steps", str(recover_steps), "--threads", str(threads), *shlex.split(recover_options))
    for remove in map(int, removes.split(",")):
        place = folder / f"search-{remove}"
        options = ("--measure", measure, "--top_k", str(top_k), "--utterances", str(utterances))
        found = search(teacher, data, place, "--remove", str(remove), "--methods", "[all]", *options)
        structures = {tuple(one["removed"]): place / "structures" / f"{one['method']}.json" for one in found["methods"]}
        for removed, seed in itertools.product(sorted(structures), range(seeds)):
            output = _place(folder, removed, seed)
            _recover(output, *given, "--structure", str(structures[removed]), "--seed", str(seed))
            reports = [evaluate(output / phase, data, _report(output, phase)) for phase in PHASES]
            before, after = (f"{report['model']['wer']:.2%}" for report in reports)
            print(
                f"without {', '.join(map(str, removed))}, seed {seed}: WER {before} before, {after} after", flush=True
            )


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
    remember(folder / STATE, depth=typed())
    for blocks in map(int, depths.split(",")):
        model = folder / f"depth-{blocks}" / "model"
        if not (model / "config.json").exists():
            _new_model(model, blocks)
        method = "comflp,greedy" if greedy else "comflp"
        options = ("--remove", str(blocks // 2), "--methods", f"[{method}]", "--top_k", str(top_k))
        search(model, data, model.parent, *options, "--utterances", str(utterances))


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
    state = recall(folder / STATE)
    commands = " ; ".join(state[name] for name in ("run", "depth") if name in state)
    lines = facts(commands, data, note, commit=state.get("commit"))
    lines += [*_comparison(folder), *_depths(folder), *_remarks(state)]
    append_entry(Path(results), title, lines)


def _new_model(folder: Path, blocks: int) -> None:
    torch.manual_seed(0)
    processor = build_processor("parakeet", list(LETTERS), TokensConfig())
    config = ModelConfig(family="parakeet", settings={**SMALL, "num_hidden_layers": blocks})
    tokenizer = processor.tokenizer
    model = build_model(config, vocabulary_size=len(tokenizer), blank=int(tokenizer.pad_token_id))
    save(fresh_model(model), processor, folder)
    load_processor(str(folder))


def _recover(output: Path, *options: str) -> None:
    if not (output / "done.json").exists():
        execute((*LAUNCH, "recipes/prune.py", *options, "--output", str(output)), output.with_suffix(".log"))


def _place(folder: Path, removed: Sequence[int], seed: int) -> Path:
    return folder / ("without-" + "-".join(map(str, removed))) / f"seed-{seed}"


def _report(output: Path, phase: str) -> Path:
    return output / f"report-{phase}"


def _searches(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    found = [read(path) for path in folder.glob(f"{kind}-*/search.json")]
    yield from sorted(found, key=lambda one: (one["blocks"], one["remove"]))


def _comparison(folder: Path) -> list[str]:
    head = ("removed", "method", "which", "dev WER %", "test WER % before", "after recovery", f"minus {RIVAL}")
    rows = []
    for found in _searches(folder, "search"):
        size = f"{found['remove']} of {found['blocks']}"
        rival = next((_outputs(folder, one) for one in found["methods"] if one["method"] == RIVAL), [])
        for one in found["methods"]:
            outputs = _outputs(folder, one)
            tested = [_shown([read(_report(path, phase) / "report.json") for path in outputs]) for phase in PHASES]
            which, seen = ", ".join(map(str, one["removed"])), f"{PERCENT * one['wer']:.2f}"
            apart = _minus(outputs, rival) if one["method"] != RIVAL else ""
            took = str(one["evaluations"]), f"{one['seconds']:.1f}"
            rows.append([size, one["method"], which, seen, *tested, apart, *took])
    return grid((*head, "evaluations", "seconds"), rows)


def _outputs(folder: Path, method: Mapping[str, Any]) -> list[Path]:
    """The recoveries of what a method chose, one for each seed, that have been evaluated."""
    reports = _place(folder, method["removed"], 0).parent.glob("seed-*/report-final/report.json")
    return sorted(path.parent.parent for path in reports)


def _minus(mine: Sequence[Path], other: Sequence[Path]) -> str:
    """The paired difference of the error rates after recovery, means over the seeds."""
    if not mine or not other:
        return ""
    counts = [[counted(_report(path, PHASES[-1])) for path in outputs] for outputs in (mine, other)]
    errors = [np.stack([one.errors for one in every]) for every in counts]
    return paired(*errors, counts[0][0].words)


def _shown(reports: Sequence[dict[str, Any]]) -> str:
    """Mean over the seeds; the interval of a single one, or every one."""
    rates = [PERCENT * report["model"]["wer"] for report in reports]
    if len(rates) > 1:
        return f"{sum(rates) / len(rates):.2f} ({', '.join(f'{one:.2f}' for one in rates)})"
    return rate(reports[0]["model"]["wer"], reports[0]["model"]["wer_ci95"]) if reports else ""


def _depths(folder: Path) -> list[str]:
    head = ("blocks", "removed", "method", "evaluations", "block runs", "without reuse", "seconds")
    rows = []
    for found in _searches(folder, "depth"):
        for one in found["methods"]:
            counts = [str(one[key]) for key in ("evaluations", "block_runs", "block_runs_alone")]
            rows.append([str(found["blocks"]), str(found["remove"]), one["method"], *counts, f"{one['seconds']:.1f}"])
    return grid(head, rows)


def _remarks(state: dict[str, Any]) -> list[str]:
    steps = f" of {state['recover_steps']} steps" if state.get("recover_steps") else ""
    return [
        "Dev WER is what a search saw; test WER is of the model without the blocks, before and after a recovery"
        f"{steps}, with 95 % bootstrap intervals over utterances, or every seed; the difference to {RIVAL} is paired, "
        "in points. The seconds of a search include the matrix, and not the reading of the model. Models of the table "
        "by depth are new: only its counts and seconds "
        "mean anything."
    ]


if __name__ == "__main__":
    jsonargparse.auto_cli([run, depth, table], as_positional=False)
