"""The one rule for options, tested on every verb and every recipe."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from compress.cli import VERBS, main
from compress.config import known_keys, nearest, parse
from compress.config.keys import alternatives, fields_of, find_key, holds_mapping, nested_class
from compress.config.options import spelt_out
from tests.helpers.launching import load_recipe

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = sorted(path.stem for path in (REPOSITORY / "recipes").glob("*.py"))


class Program(NamedTuple):
    """A verb or a recipe: how it is started, what it can be told, and what it can be told without naming the key."""

    start: Callable[[list[str]], Any]
    config_class: type[Any]
    positional: list[str]


@pytest.fixture(params=[*(verb for verb in VERBS if verb.replace("-", "_") not in RECIPES), *RECIPES])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Program:
    if request.param in RECIPES:
        config_class = load_recipe(f"recipes/{request.param}.py").Config
        return Program(lambda words: parse(config_class, words, prog=request.param), config_class, [])
    declared: list[Any] = []

    def spy(words: Any, config_class: type[Any], positional: Any) -> list[str]:
        declared[:] = [config_class, positional]
        return spelt_out(words, config_class, positional)

    monkeypatch.setattr("compress.config.parsing.spelt_out", spy)
    with pytest.raises(SystemExit):
        main([request.param, "--help"])
    return Program(lambda words: main([request.param, *words]), declared[0], list(declared[1]))


@pytest.fixture
def refusal(program: Program, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def start(*words: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            program.start(list(words))
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message

    return start


def test_hyphen_equals_underscore(program: Program) -> None:
    for key in known_keys(program.config_class):
        assert find_key(program.config_class, key.replace("_", "-")) == find_key(program.config_class, key)


def test_print_config_with_a_hyphen(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    has_keys = bool(known_keys(program.config_class))
    for option in ("--print-config", "--print_config"):
        with pytest.raises(SystemExit) as stop:
            program.start([*(f"word{number}" for number in range(len(program.positional))), option])
        assert stop.value.code == (0 if has_keys else 2)


def test_help_speaks_of_what_there_is_and_names_no_class(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.start(["--help"])
    text = capsys.readouterr().out
    assert ("--config" in text) == bool(known_keys(program.config_class))
    assert not re.findall(r"\w+Config\b", text)
    assert "CONFIG" not in text.replace("--config CONFIG", "")


PLAIN_ASKED = 2


def test_every_part_has_a_help_of_its_own(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """And a few keys that are no parts say so: each question builds the whole parser, which takes its time."""
    parts = {key: nested_class(find_key(program.config_class, key)[1]) for key in known_keys(program.config_class)}
    plain = [key for key, part in parts.items() if not part]
    for key in (*plain[:PLAIN_ASKED], *filter(parts.get, parts)):
        part = parts[key]
        with pytest.raises(SystemExit) as stop:
            program.start([f"--{key.replace('_', '-')}.help"])
        said = capsys.readouterr()
        assert stop.value.code == (0 if part else 2)
        if part:
            assert all(f"--{key}.{name}" in said.out for name in fields_of(part))
            assert not re.findall(r"\w+Config\b", said.out)
        else:
            assert f"--{key} has no keys of its own" in said.err


def test_flags_and_lists(program: Program) -> None:
    for key in known_keys(program.config_class):
        _, kind = find_key(program.config_class, key)
        if key.endswith("mix"):  # of parts
            continue
        options = spelt_out([f"--{key}", "[1,2]"], program.config_class, ["word"]) if kind is not bool else []
        if alternatives(kind) == (bool,):
            assert spelt_out([f"--{key}"], program.config_class) == [f"--{key}=true"]
        elif any(getattr(member, "__origin__", None) is tuple for member in alternatives(kind)):
            assert options[0].replace(" ", "").replace('"', "") == f"--{key}=[1,2]"
            with pytest.raises(ValueError, match=rf"--{key} takes a list in brackets; write --{key} \[1,2\]"):
                spelt_out([f"--{key}", "1", "2"], program.config_class)
        else:
            assert holds_mapping(kind) or len(options) == 1


def test_a_surplus_word_is_refused_with_what_was_understood(program: Program, refusal: Callable[..., str]) -> None:
    words = [f"word{number}" for number in range(len(program.positional))]
    message = refusal(*words, "one", "two")
    understood = ", ".join(f"{key}={word}" for key, word in zip(program.positional, words, strict=True))
    assert f"error: surplus: one two; understood: {understood or 'nothing else'}" in message


def test_an_unknown_option_names_the_nearest_key(program: Program, refusal: Callable[..., str]) -> None:
    keys = known_keys(program.config_class)
    for written in [f"{key}x" for key in keys if "." not in key][:1] or ["anything"]:
        message = refusal("--" + written.replace("_", "-"), "1")
        assert f"Unknown key '{written}' in the command line." in message
        assert (f"'{nearest(written, keys)}'" if keys else "There are no keys") in message
