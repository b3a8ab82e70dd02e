"""Every fenced shell and Python block of README.md and docs/ runs, or says why it does not.

For who writes a page:

- Fences carry a language. `bash` and `python` blocks run, in the order of their page, in one empty folder per page:
  Python blocks share their names, as in one session; each shell block is `bash -euo pipefail` and starts in the folder.
- The folder looks like a checkout (`recipes/`, `configs/`, `tools/`), and `data/` has what the configs name.
  All of them, and `my-speech/` with `train`, `dev` and `test`, are a few seconds of three tones ("low mid high").
- The Hub is a server on this machine with tiny models under the names in `HUB`; one can push to it as well.
- `compress`, `accelerate launch` and `torchrun` run the real programs in one process, quickly: what `SMALL` says is
  appended to commands that it names (two steps, small models), so that pages show what a user would write.
- `<!-- not run: REASON -->` on a line before a fence keeps a block from running. `REASONS` lists how a reason begins.
  The options of `compress` and of the recipes in such a block are still parsed, so they must exist.
- What a page presupposes and does not show stands in a comment, which runs like a shell block:

      <!-- run first:
      compress extract elastic --depth 4 --out runs/parakeet-50/final
      -->

- README's Python, and all of docs/quickstart.md but what installs, always run.
- A `yaml` block is part of a recipe's config: its keys must exist.
- What a command prints is shown in a block of language `text`, which nothing checks.

`pytest tests/docs/test_blocks.py -k quickstart` runs one page.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from transformers import ParakeetCTCConfig, ParakeetForCTC

import compress.cli
from compress.checkpoint import save
from compress.config import parse
from compress.config.keys import unknown_keys
from compress.training.tokens import TokensConfig, build_processor
from tests.helpers import page_runner
from tests.helpers.hub import TOKEN, running_hub
from tests.helpers.launching import load_recipe, make_split
from tests.helpers.page_runner import ask, recipe_and_options, write_commands
from tests.helpers.pages import PYTHON, REPOSITORY, SHELL, Block, blocks_of, pages

REASONS = ("needs a GPU", "needs the Hub", "needs several machines", "takes ", "installs", "changes this checkout")
LEAST_BLOCKS = 15
PAGE_SECONDS = 240
HUB = ("nvidia/parakeet-ctc-0.6b", "nvidia/parakeet-ctc-1.1b")

_QUICK = "--threads 1 --trackers [] --batch.workers 0 --batch.seconds 12"
_FEW_STEPS = f"{_QUICK} --evaluate_every_steps 2 --checkpoint_every_steps 2"
_PRUNE = f"{_FEW_STEPS} --recover.steps 2 --recover.warmup_steps 1"
_TRAIN = f"{_FEW_STEPS} --max_steps 4 --optimizer.warmup_steps 1"
_MODEL = " ".join(
    f"--model.settings.{name} {value}"
    for name, value in {"hidden_size": 16, "intermediate_size": 32, "subsampling_conv_channels": 4}.items()
)
_DEV = "--batch.workers 0 --jobs 1"
SMALL = {
    "recipes/prune.py": _PRUNE,
    "recipes/train.py": _TRAIN,
    "recipes/train_supernet.py": f"{_TRAIN} --joint.warmup_steps 1",
    "parakeet-ctc-0.6b_librispeech": "--data.source my-speech --data.split train --data.text_column transcription "
    "--data.subset null --dev_split dev",
    "_gates.yaml": "--learn.steps 2 --learn.warmup_steps 1",
    "configs/train/parakeet-small": _MODEL,
    "configs/train/parakeet-elastic": _MODEL,
    "configs/train/parakeet-words": _MODEL,
    "configs/supernet/parakeet-small": _MODEL,
    "configs/demo/train": _MODEL,
    "configs/demo/supernet": _MODEL,
    "compress evaluate": "--batch.workers 0 --speed.seconds 1 --speed.repetitions 1 --speed.warmup 0",
    "compress search": _DEV,
    "compress shrink": "--batch.workers 0 --refit.utterances 4 --bootstrap.resamples 100 --speed.seconds 1 "
    "--speed.repetitions 1 --speed.warmup 0",
    "compress shrink --sizes.params": "--sizes.params [75%,50%]",
    "compress analyze": _DEV,
    "compress skip": "--batch.workers 0 --thresholds [0.01] --max_wer_increase 100",  # hardly trained, no blank is sure
}
"""Options appended to a `compress` that has the words of the key, and to a recipe of which a word holds the key."""

BLOCKS = [block for page in pages() for block in blocks_of(page)]
PAGES = sorted({block.page for block in BLOCKS if block.runs})
NOT_RUN = [block for block in BLOCKS if block.reason is not None and block.language in (*SHELL, *PYTHON)]

Runner = Callable[[Sequence[Block]], "tuple[int, str]"]


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    for seed, (split, count) in enumerate({"train": 12, "dev": 4, "test": 4}.items()):
        make_split(folder / split, count, seed)
    return folder


def tiny_checkpoint(folder: Path) -> dict[str, bytes]:
    """The files of a Parakeet of eight blocks that spells the tones' names."""
    processor = build_processor("parakeet", ["low mid high"], TokensConfig(), mel_bins=80)
    sizes = {"hidden_size": 16, "num_hidden_layers": 8, "num_attention_heads": 4, "intermediate_size": 32}
    config = ParakeetCTCConfig(
        vocab_size=len(processor.tokenizer),
        pad_token_id=processor.tokenizer.pad_token_id,
        encoder_config={**sizes, "subsampling_conv_channels": 4, "num_mel_bins": 80, "subsampling_factor": 4},
    )
    save(ParakeetForCTC(config), processor, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def run(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """Runs blocks as a page of its own; returns the exit code and what was written."""
    folder = tmp_path_factory.mktemp("pages")
    with running_hub() as hub, tempfile.TemporaryDirectory() as short:  # the path of a socket has to be short
        files = tiny_checkpoint(folder / "parakeet")
        hub.repositories |= {name: dict(files) for name in HUB}
        path = str(Path(short, "socket"))
        write_commands(folder / "bin", path)
        values = environment(folder, hub.address)
        server = subprocess.Popen([sys.executable, "-m", page_runner.__name__, path], env=values, cwd=REPOSITORY)
        while not Path(path).exists() and server.poll() is None:
            time.sleep(0.1)

        def run_blocks(blocks: Sequence[Block]) -> tuple[int, str]:
            place = checkout(Path(tempfile.mkdtemp(dir=folder)), speech)
            request = {"folder": str(place), "environment": values}
            request["blocks"] = [asdict(block) | {"place": block.place} for block in blocks]
            with (place.parent / "output").open("w+") as output:
                code = ask(path, request, output.fileno(), PAGE_SECONDS)
            return code, (place.parent / "output").read_text()

        yield run_blocks
        server.terminate()
        server.wait()


def environment(folder: Path, hub: str) -> dict[str, str]:
    """Of the server and of every block: the Hub is ours, caches are empty, commands are those of `write_commands`."""
    values = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    search = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    values |= {"PATH": search, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    values |= {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "home"), "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    values |= {"HF_HUB_DISABLE_TELEMETRY": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    return values | {"SMALL": json.dumps({key: shlex.split(options) for key, options in SMALL.items()})}


def checkout(folder: Path, speech: Path) -> Path:
    """A folder like a checkout, with `my-speech` and the data sets that configs name."""
    place = folder / "checkout"
    place.mkdir()
    for name in ("recipes", "configs", "tools"):
        (place / name).symlink_to(REPOSITORY / name)
    (place / "my-speech").symlink_to(speech)
    for config in (REPOSITORY / "configs").rglob("*.yaml"):
        for source in re.findall(r"source: +(data/\S+)", config.read_text()):
            data = place / source
            data.parent.mkdir(parents=True, exist_ok=True)
            if not data.is_symlink():
                data.symlink_to(speech)
    return place


@pytest.mark.timeout(PAGE_SECONDS + 60)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page: str, run: Runner) -> None:
    code, output = run([block for block in BLOCKS if block.page == page and block.runs])
    assert code == 0, output[-6000:]


def test_enough_blocks_run() -> None:
    assert sum(block.runs and not block.hidden for block in BLOCKS) >= LEAST_BLOCKS


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_has_a_language(block: Block) -> None:
    assert block.language, f"{block.place}: write the language behind the fence (text for what a command prints)."


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.place)
def test_a_block_that_is_not_run_says_why_and_names_what_exists(
    block: Block, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert block.reason is not None
    assert block.reason.startswith(REASONS), f"{block.place}: {block.reason!r} begins with none of {REASONS}."
    monkeypatch.chdir(checkout(tmp_path, speech))
    check(block)


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "yaml"], ids=lambda block: block.place
)
def test_keys_of_a_config_exist(block: Block) -> None:
    values = yaml.safe_load(block.code)
    configs = [load_recipe(f"recipes/{path.name}").Config for path in (REPOSITORY / "recipes").glob("*.py")]
    unknown = [list(unknown_keys(values, config)) for config in configs]
    assert [] in unknown, f"{block.place}: no recipe knows {min(unknown, key=len)}"


def test_what_always_runs() -> None:
    for block in NOT_RUN:
        assert block.page != "README.md" or block.language not in PYTHON, block.place
        assert block.page != "docs/quickstart.md" or str(block.reason).startswith("installs"), block.place


def check(block: Block) -> None:
    """Compiles a block that is not run, and parses its command lines."""
    if block.language in PYTHON:
        compile(block.code, block.place, "exec")
        return
    subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
    for words in commands(block.code):
        assert parses(words), f"{block.place}: {' '.join(words)}"


def parses(words: Sequence[str]) -> bool:
    """Whether a command's own parser accepts its words; what it says goes to this process's stderr."""
    try:
        if words[0] == "compress":
            return compress.cli.main([*words[1:], "--print_config"]) == 0
        recipe, *options = recipe_and_options(words)
        if recipe.startswith("recipes/"):
            parse(load_recipe(recipe).Config, [*options, "--print_config"], prog=recipe)
    except SystemExit as end:
        return end.code == 0
    return True


def commands(code: str) -> Iterator[list[str]]:
    """The command lines of a shell block that are ours."""
    for line in code.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word[0] in ";|&<>()":
                own = words[words[:1] == ["srun"] :]
                if own and own[0] in page_runner.COMMANDS:
                    yield own
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)


def page(folder: Path, text: str) -> list[Block]:
    """The blocks of a page that holds this text."""
    path = folder / "page.md"
    path.write_text(text)
    return blocks_of(path, folder)


def test_blocks_are_found_wherever_they_stand(tmp_path: Path) -> None:
    text = (
        "<!-- run first:\nmkdir made\n-->\n\n```bash\nls made\n```\n\n1. In a list:\n\n"
        "    ```python\n    a = 1\n    ```\n"
        "\n<!-- not run: needs a GPU -->\n\n```bash\nmake demo\n```\n\n````text\n```\nnothing\n```\n````\n"
        "<!-- not run: takes a day -->\nWords between.\n```bash\ntrue\n```\n"
    )
    blocks = page(tmp_path, text)
    assert [block.code for block in blocks] == [
        "mkdir made",
        "ls made",
        "a = 1",
        "make demo",
        "```\nnothing\n```",
        "true",
    ]
    assert [block.runs for block in blocks] == [True, True, True, False, False, True]
    assert [block.reason for block in blocks] == [None, None, None, "needs a GPU", None, None]
    assert [block.line for block in blocks] == [1, 5, 11, 17, 21, 28]
    with pytest.raises(ValueError, match=r"page.md:1: this fence is never closed"):
        page(tmp_path, "```bash\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```bash\nmkdir here\nls there | cat\n```\n", "there"),
        ("```python\na = 1\n```\n\n```python\nb = a + c\n```\n", 'page.md", line 6'),
        ("```bash\ncompress inspect my-model --second 3\n```\n", "second"),
        ("```bash\naccelerate launch recipes/train.py --optimiser.learning_rate 3\n```\n", "optimizer.learning_rate"),
    ],
)
def test_what_fails_is_told(tmp_path: Path, run: Runner, text: str, message: str) -> None:
    code, output = run(page(tmp_path, text))
    assert code != 0
    assert message in output


@pytest.mark.parametrize(
    ("line", "accepted"),
    [
        ("HF_TOKEN=x compress inspect nvidia/parakeet-ctc-0.6b --seconds 3 > sizes.txt", True),
        ("compress inspect nvidia/parakeet-ctc-0.6b --second 3", False),
        ("make demo && compress shrink --everything", False),
        ("compress evaluate MODEL --data my-speech --out report | tee log", True),
        ("accelerate launch --cpu recipes/train.py --config configs/demo/train.yaml --max_steps 3", True),
        ("srun torchrun --nproc_per_node 2 recipes/train.py --config configs/demo/train.yaml --max_step 3", False),
        ("accelerate launch --gpu recipes/train.py --config configs/demo/train.yaml", False),
        ("torchrun --nproc_per_node 2 recipes/train.py --config configs/demo/train.yaml --max_step 3", False),
        ("compress evaluate MODEL \\\n  --worst 3 # of them", True),
    ],
)
def test_options_of_what_is_not_run(
    line: str, accepted: bool, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkout(tmp_path, speech))
    output = io.StringIO()
    with redirect_stderr(output), redirect_stdout(output):
        if accepted:
            check(Block("page.md", 1, "bash", line))
        else:
            with pytest.raises(AssertionError, match=r"page.md:1"):
                check(Block("page.md", 1, "bash", line))
