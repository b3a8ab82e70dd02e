"""Gives the package thousands of broken inputs, each in a process of its own, and counts how it takes them.

    python tools/hostile.py --seed 0
    python tools/hostile.py --kinds [config,state] --count 50 --seed 3

A mutation of a valid input must be accepted, or refused in one message that names the file, the key or the tensor. The
table shows, by the kind of input, how many mutations ended otherwise:

    traceback   an error of another kind than users are shown
    unclear     refused, but the message names nothing
    other       a run was gone on from, and reached another result
    memory      more than 1 GiB beyond what was in use
    time        more than 20 s
    signal      the process was killed

Exit code 0 if there are none.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from torch import nn

import compress
from compress.checkpoint import load_recogniser, save
from compress.config import check_at_least, check_choice, known_keys, parse
from compress.data import SpeechConfig, open_speech
from compress.structure import Block, Structure
from compress.training.loop.best import Best
from compress.training.loop.checkpoints import Checkpoints
from compress.training.new_models import ModelConfig, build_model
from compress.training.supervised import SupervisedConfig
from compress.training.tokens import TokensConfig, build_processor

GIBIBYTE, SECONDS = 1 << 30, 20
RATE, LETTERS = 16_000, "abcdefghijklmnop q"
GOOD = ("accepted", "refused")
BAD = ("traceback", "unclear", "other", "memory", "time", "signal")
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**9, 1e308, float("nan"), float("inf"), "", "x", "x" * 10_000, [], {}, [None], {"a": 1},
    "\x00", json.loads("[" * 300 + "]" * 300),
)  # fmt: skip
"""What stands in the place of a value of a JSON or YAML file."""


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        files: that are mutated, below the folder that `make` fills.
        make: fills a folder with valid input.
        read: reads it, as the package does, and may return what must not change.
    """

    files: tuple[str, ...]
    make: Callable[[Path], None]
    read: Callable[[Path], Any]


@dataclass(frozen=True)
class HostileConfig:
    """What is tried.

    Attributes:
        kinds: of input; none: all.
        count: mutations of each kind.
        seed: of the mutations.
        show: print the mutations that end badly.
    """

    kinds: tuple[str, ...] = ()
    count: int = 400
    seed: int = 0
    show: bool = True

    def __post_init__(self) -> None:
        for kind in self.kinds:
            check_choice("kinds", kind, KINDS)
        check_at_least("count", self.count, 1)


@dataclass
class Verdict:
    """How one mutation ended.

    Attributes:
        kind: of input.
        mutation: what was done to which file.
        outcome: one of `GOOD` or `BAD`.
        said: the message, or the traceback.
    """

    kind: str
    mutation: str
    outcome: str
    said: str = field(default="", repr=False)


def run_hostile(config: HostileConfig) -> list[Verdict]:
    """Tries all mutations of a config, one after another."""
    torch.set_num_threads(1)  # a fork has no other threads
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        for name in config.kinds or KINDS:
            whole = Path(folder, name, "whole")
            whole.mkdir(parents=True)
            KINDS[name].make(whole)
            expected = KINDS[name].read(whole)
            for number in range(config.count):
                chooser = random.Random(f"{config.seed} {name} {number}")
                verdicts.append(_tried(name, whole, chooser, expected))
    return verdicts


def _tried(name: str, whole: Path, chooser: random.Random, expected: Any) -> Verdict:
    broken = whole.with_name("broken")
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(whole, broken)
    file = broken / chooser.choice(KINDS[name].files)
    mutation = f"{file.relative_to(broken)}: {mutate(file, chooser)}"
    return Verdict(name, mutation, *_in_a_fork(lambda: _outcome(KINDS[name], broken, expected)))


def _in_a_fork(work: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """Runs work in a process of its own, with limits of time and memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + GIBIBYTE, used + GIBIBYTE))
        signal.alarm(SECONDS)
        result = ("memory", "MemoryError")
        with contextlib.suppress(MemoryError):
            result = work()
        os.write(writer, json.dumps(result)[: 1 << 15].encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        written = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return ("time" if number == signal.SIGALRM else "signal"), signal.Signals(number).name
    outcome, said = json.loads(written) if written else ("signal", "no answer")
    return outcome, said


def _outcome(kind: Kind, folder: Path, expected: Any) -> tuple[str, str]:
    error_stream = io.StringIO()
    try:
        with contextlib.redirect_stderr(error_stream), contextlib.redirect_stdout(io.StringIO()):
            result = kind.read(folder)
    except SystemExit:
        return _judged(error_stream.getvalue(), folder)
    except (ValueError, OSError) as error:
        return _judged(str(error)[:2000], folder)
    except MemoryError:
        raise
    except Exception:
        return "traceback", traceback.format_exc()[-1500:]
    return ("accepted", "") if expected is None or result in expected else ("other", f"{result} instead of {expected}")


def _judged(message: str, folder: Path) -> tuple[str, str]:
    """Whether a message names what is wrong: a file, the folder, or a key."""
    names = [str(folder), " is ", 'Parser key "', "arguments are required: "]
    names += [path.name for path in folder.rglob("*")] + [key for key in known_keys(SupervisedConfig) if "." in key]
    return ("refused" if any(name in message for name in names) else "unclear"), message


def mutate(file: Path, chooser: random.Random) -> str:
    """Breaks a file in one way; says which."""
    if file.suffix in (".json", ".yaml") and chooser.random() < 0.7:
        return _mutate_tree(file, chooser)
    content = bytearray(file.read_bytes())
    way = chooser.choice(("truncate", "flip", "delete", "insert", "empty", "zeros", "deep"))
    place, length = chooser.randrange(max(1, len(content))), chooser.choice((1, 4, 100))
    if way == "truncate":
        del content[place:]
    elif way == "flip":
        for offset in range(place, min(place + length, len(content))):
            content[offset] ^= 1 << chooser.randrange(8)
    elif way == "delete":
        del content[place : place + length]
    elif way == "insert":
        content[place:place] = bytes(chooser.randrange(256) for _ in range(length))
    else:
        content = bytearray({"empty": b"", "zeros": bytes(1000), "deep": b"[" * 20_000}[way])
    file.write_bytes(content)
    return f"{way} {length} at {place}"


def _mutate_tree(file: Path, chooser: random.Random) -> str:
    tree = yaml.safe_load(file.read_text()) if file.suffix == ".yaml" else json.loads(file.read_text())
    owner, key = chooser.choice(list(_places({"": tree})))
    value = copy.deepcopy(chooser.choice(VALUES))
    if chooser.random() < 0.2 and isinstance(owner, dict) and key:
        del owner[key]
        value = "nothing"
    elif key == "":
        tree = value
    else:
        owner[key] = value
    file.write_text(yaml.safe_dump(tree) if file.suffix == ".yaml" else json.dumps(tree))
    return f"{key} = {str(value)[:40]}"


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items)[:50]:
        yield tree, key
        yield from _places(value)


def _make_yaml(folder: Path) -> None:
    content = {"output": "out", "data": {"source": "speech", "max_seconds": 20.0}, "model": {"family": "parakeet"},
               "optimizer": {"learning_rate": 1e-3, "warmup_steps": 10}, "batch": {"seconds": 40.0, "workers": 1},
               "augment": {"speed": [0.9, 1.1]}, "epochs": 3, "trackers": ["tensorboard"]}  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(content))


def _read_yaml(folder: Path) -> None:
    parse(SupervisedConfig, ["--config", str(folder / "run.yaml")], prog="train.py")


def _make_speech(folder: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, RATE).astype(np.float32)
    for name in ("a.wav", "b.flac", "c.ogg"):
        soundfile.write(folder / name, noise, RATE)
    rows = [("a.wav", "turn on"), ("b.flac", '"stop, now"'), ("c.ogg", "light")]
    (folder / "metadata.csv").write_text(
        "".join(f"{','.join(row)}\n" for row in [("file_name", "transcription"), *rows])
    )


def _read_speech(folder: Path) -> None:
    open_speech(SpeechConfig(str(folder), cache_max_gib=0, max_bad_fraction=1.0), sampling_rate=RATE)


def _make_structure(folder: Path) -> None:
    Structure("parakeet", (Block(ffn1=(0, 1, 5)), None, Block())).save(folder / "structure.json")


def _read_structure(folder: Path) -> None:
    Structure.load(folder / "structure.json")


def _make_model(folder: Path) -> None:
    processor = build_processor("parakeet", [LETTERS], TokensConfig(), mel_bins=16)
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
                "subsampling_conv_channels": 4, "num_mel_bins": 16}  # fmt: skip
    tokens = len(processor.tokenizer)
    model = build_model(ModelConfig("parakeet", settings), vocabulary_size=tokens, blank=tokens - 1)
    small = compress.remove(model, Structure("parakeet", (Block(ffn1=(0, 1, 5)), Block())))
    save(small, processor, folder, {"method": "prune"})


def _read_model(folder: Path) -> None:
    load_recogniser(str(folder))


def _net() -> tuple[nn.Module, torch.optim.Optimizer, Best]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters()), Best()


def _make_state(folder: Path) -> None:
    model, optimizer, best = _net()
    checkpoints = Checkpoints(folder, keep=2, settings={"seed": 0})
    for step in (1, 2):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        best.improved(1.0 / step, step)
        checkpoints.save(step, {"best": best}, model, optimizer)


def _read_state(folder: Path) -> list[Any]:
    """Where the run goes on: at either of its two checkpoints as it was, or at the start."""
    model, optimizer, best = _net()
    restored = Checkpoints(folder, keep=2, settings={"seed": 0}).restore({"best": best}, model, optimizer)
    step = restored.step if restored else 0
    weights = [round(float(value), 5) for value in next(model.parameters()).detach().flatten()]
    return [step, best.value if step else None, weights]


def _states(folder: Path) -> list[Any]:
    """All that is right after any damage."""
    if folder.name == "broken":
        return _read_state(folder)
    alone = folder.with_name("alone")
    right = [_read_state(folder)]
    for name in ("step-00000002", "step-00000001"):
        shutil.rmtree(alone, ignore_errors=True)
        shutil.copytree(folder, alone, ignore=shutil.ignore_patterns(name))
        right.append(_read_state(alone))
    return [*right, _read_state(folder.with_name("nothing"))]


STATE = tuple(f"step-00000002/{name}" for name in ("checkpoint.json", "states.pt", "optimizer.pt", "random-0.pt"))
KINDS: Mapping[str, Kind] = {
    "yaml": Kind(("run.yaml",), _make_yaml, _read_yaml),
    "metadata": Kind(("metadata.csv",), _make_speech, _read_speech),
    "audio": Kind(("a.wav", "b.flac", "c.ogg"), _make_speech, _read_speech),
    "structure": Kind(("structure.json",), _make_structure, _read_structure),
    "config": Kind(("config.json", "compression.json"), _make_model, _read_model),
    "processor": Kind(("processor_config.json", "tokenizer.json", "tokenizer_config.json"), _make_model, _read_model),
    "weights": Kind(("model.safetensors",), _make_model, _read_model),
    "state": Kind((*STATE, "step-00000002/model.safetensors"), _make_state, _states),
}
"""Every kind of input, by its name."""


def table(verdicts: list[Verdict]) -> str:
    """The number of mutations by kind and outcome."""
    counts = Counter((verdict.kind, verdict.outcome) for verdict in verdicts)
    kinds = list(dict.fromkeys(verdict.kind for verdict in verdicts))
    rows = [("kind", *GOOD, *BAD), *((kind, *(str(counts[kind, name]) for name in (*GOOD, *BAD))) for kind in kinds)]
    return "\n".join("  ".join(f"{cell:>10}" for cell in row) for row in rows)


def main() -> int:
    """Tries what the command line asks for, and prints the table."""
    config = parse(HostileConfig, prog="hostile.py", description=__doc__ or "")
    verdicts = run_hostile(config)
    bad = [verdict for verdict in verdicts if verdict.outcome in BAD]
    for verdict in bad if config.show else ():
        sys.stdout.write(f"{verdict.outcome}: {verdict.kind}: {verdict.mutation}\n{verdict.said}\n\n")
    sys.stdout.write(table(verdicts) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
