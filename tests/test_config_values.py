"""Every field of every config refuses what no setting can be, by one mechanism; sections may be empty or dotted."""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from compress.config import parse, to_dict
from compress.config.keys import alternatives, fields_of, nested_class
from compress.config.values import check_values
from compress.demo import DemoConfig
from compress.evaluation import EvaluateConfig
from compress.search.analyze import AnalyzeConfig
from compress.search.blocks import SearchConfig
from compress.search.skip_settings import CalibrateConfig
from tests.helpers.launching import load_recipe

VERBS = (EvaluateConfig, SearchConfig, AnalyzeConfig, CalibrateConfig, DemoConfig)
RECIPES = ("train", "prune", "train_supernet")
NEVER = (math.nan, math.inf, -math.inf, -1e30, 1e30)


def configs() -> dict[str, type[Any]]:
    recipes = {name: load_recipe(f"recipes/{name}.py").Config for name in RECIPES}
    return {config.__name__: config for config in VERBS} | recipes


CONFIGS = configs()


def leaves(config_class: type[Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field that is no section, with what it holds."""
    for name, annotation in fields_of(config_class).items():
        section = nested_class(annotation)
        if section in alternatives(annotation):
            yield from leaves(section, (*prefix, name))
        else:
            yield (*prefix, name), annotation


def at(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


@pytest.mark.parametrize("name", CONFIGS)
def test_no_field_takes_what_no_setting_can_be(name: str) -> None:
    tried = 0
    for path, annotation in leaves(CONFIGS[name]):
        kinds = [inner for kind in alternatives(annotation) for inner in (kind, *typing.get_args(kind))]
        wrong: list[Any] = list(NEVER) if int in kinds or float in kinds else []
        if annotation is not Any and type(None) not in typing.get_args(annotation):
            wrong.append(None)
        for value in wrong:
            tried += 1
            with pytest.raises(ValueError, match=f"^{'.'.join(path)} is "):
                check_values(CONFIGS[name], at(path, value))
    assert tried > 3


@pytest.mark.parametrize("name", ["EvaluateConfig", "AnalyzeConfig"])
def test_every_default_is_allowed(name: str) -> None:
    check_values(CONFIGS[name], to_dict(CONFIGS[name](model="model")))


BASE = "output: out\ndata: {source: speech}\nmodel: {family: parakeet}\n"


def read(folder: Path, text: str) -> Any:
    path = folder / "run.yaml"
    path.write_text(BASE + text)
    return parse(CONFIGS["train"], ["--config", str(path)], prog="train.py")


@pytest.mark.parametrize(
    "text", ["augment:\n", "augment:\n  # speed: [0.9]\n", "augment: {}\n", "optimizer: {}\nbatch:\n"]
)
def test_an_empty_section_has_its_defaults(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == read(tmp_path, "")


def test_dotted_keys_are_taken(tmp_path: Path) -> None:
    config = read(tmp_path, "optimizer.learning_rate: 3.0e-4\noptimizer: {warmup_steps: 7}\ndata.max_seconds: 9\n")
    assert (config.optimizer.learning_rate, config.optimizer.warmup_steps, config.data.max_seconds) == (3e-4, 7, 9)
    assert config.data.source == "speech"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("augment: 3\n", "augment is 3; it is a section, so give keys below it, or nothing"),
        ("augment: [1]\n", "augment is \\[1\\]; it is a section"),
        (
            "optimizer.learning_rate: 1\noptimizer: {learning_rate: 2}\n",
            "is given twice, by a dotted key and in a section",
        ),
        (
            "optimizer: {learning_rate: null}\n",
            "optimizer.learning_rate is null; leave it out for its default, or give a",
        ),
        ("optimizer: {learning_rate: .nan}\n", "optimizer.learning_rate is nan; give a number from 0 to 1000"),
        ("optimizer: {max_gradient_norm: -1}\n", "optimizer.max_gradient_norm is -1.0; give a number from 1e-09"),
        ("optimizer: {weight_decay: -1}\n", "optimizer.weight_decay is -1.0; give a number from 0"),
        ("trackers: null\n", "trackers is null; leave it out for its default"),
        ("seed: -1\n", "seed is -1; give a number from 0"),
        ("augment: {speed: [.inf]}\n", "augment.speed is inf; give a number from 0"),
        ("optimiser.learning_rate: 1\n", "Unknown key 'optimiser.*Did you mean 'optimizer"),
    ],
)
def test_wrong_values_are_named_through_the_parser(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        read(tmp_path, text)
    written = capsys.readouterr().err
    assert re.search(message, written), written
    assert "Traceback" not in written


def test_an_empty_text_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["model", "--out", ""], ["", "--out", "x"]):
        with pytest.raises(SystemExit):
            parse(EvaluateConfig, words, prog="compress evaluate", positional=["model"])
        assert "is empty; give some text" in capsys.readouterr().err


def test_a_demo_is_refused_before_its_teacher_is_trained() -> None:
    with pytest.raises(ValueError, match="The budget '150%' is a share; give more than 0% and at most 100%"):
        DemoConfig(budget="150%")


@dataclass(frozen=True)
class Target:
    share: str = "50%"
    of: Literal["total", "encoder"] = "total"

    def __post_init__(self) -> None:
        if not self.share.endswith("%"):
            raise ValueError(f"The share {self.share!r} has no unit; did you mean '{self.share}%'?")


@dataclass(frozen=True)
class Wanted:
    output: str = "out"
    target: Target | None = None
    steps: int = 1
    limit: int | None = None
    seconds: float = 1.0
    names: tuple[str, ...] = ()


def test_the_home_folder_stands_for_itself_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the command line, in lists, and in YAML files, whose name may begin with it, too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.yaml").write_text("output: ~/out\nnames: [~/a, b~/c]\ntarget: {share: ~/50%}\n")
    target = Target(f"{tmp_path}/50%")
    expected = Wanted(output=f"{tmp_path}/out", names=(f"{tmp_path}/a", "b~/c"), target=target)
    assert parse(Wanted, ["--config=~/x.yaml"], prog="x") == expected
    words = ["--output=~/out", "--names", "[~/a,b~/c]", "--target.share=~/50%"]
    assert parse(Wanted, words, prog="x") == expected
    assert parse(Wanted, ["~/out"], prog="x", positional=["output"]).output == f"{tmp_path}/out"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--target.share", "50"], "The share '50' has no unit; did you mean '50%'?"),
        (["--target.of", "half"], "target.of is half; give one of total, encoder."),
        (["--steps", "x"], "steps is x; give a whole number."),
        (["--limit", "1e308"], "limit is 1e+308; give a whole number, or null."),
        (["--seconds", "null"], "seconds is null; give a finite number."),
        (["--names", "null"], "names is null; give a list in brackets."),
    ],
)
def test_one_sentence_says_what_is_wrong(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(Wanted, words, prog="x")
    assert capsys.readouterr().err == f"x: error: {sentence}\n"


def test_a_file_of_nothing_but_null_is_read_as_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "null.yaml").write_text("output:\n")
    with pytest.raises(SystemExit):
        parse(Wanted, ["--config", str(tmp_path / "null.yaml")], prog="x")
    assert capsys.readouterr().err == "x: error: output is null; leave it out for its default, or give text.\n"


@dataclass(frozen=True)
class Either:
    ONE_OF: ClassVar[tuple[str, ...]] = ("params", "macs")

    params: str | None = None
    macs: str | None = None
    round_to: int = 1


@dataclass(frozen=True)
class WithEither:
    target: Either | None = None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--target.macs", "60%"), Either(macs="60%", round_to=4)),
        (("--target.params", "60%"), Either(params="60%", round_to=4)),
        (("--target.macs", "60%", "--target.params", "70%"), Either(params="70%", macs="60%", round_to=4)),
        (("--target.macs", "null"), Either(params="50%", round_to=4)),
        (("--target.round_to", "2"), Either(params="50%", round_to=2)),
    ],
)
def test_one_of_several_options_replaces_that_of_the_file(
    tmp_path: Path, words: Sequence[str], expected: Either
) -> None:
    (tmp_path / "x.yaml").write_text("target: {params: 50%, round_to: 4}")
    assert parse(WithEither, ["--config", str(tmp_path / "x.yaml"), *words], prog="job").target == expected
