"""The command line of the tools: the first word names a command, options follow the rule of the package."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from tools import commands


@dataclass(frozen=True)
class Options:
    """Some options.

    Attributes:
        some_sizes: A list.
        quick: A flag.
    """

    some_sizes: tuple[str, ...] = ()
    quick: bool = False


GIVEN: list[tuple[str, Options]] = []


def run(config: Options) -> None:
    GIVEN.append(("run", config))


def table(config: Options) -> None:
    raise ValueError("There are no reports.")


def start(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    GIVEN.clear()
    monkeypatch.setattr(sys, "argv", ["tool.py", *words])
    commands.main(run, table)


def test_the_first_word_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, "run", "--some-sizes", "[50%,25%]", "--quick")
    assert [("run", Options(("50%", "25%"), True))] == GIVEN


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "The first word is one of run, table; given: none"),
        (["rum"], "The first word is one of run, table; given: rum"),
        (["run", "surplus"], "surplus"),
        (["run", "--some_size", "1"], "some_sizes"),
        (["table"], "There are no reports."),
    ],
)
def test_a_mistake_ends_with_one_message(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        start(monkeypatch, *words)
    assert message in capsys.readouterr().err


def test_a_tool_of_one_command_needs_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    GIVEN.clear()
    monkeypatch.setattr(sys, "argv", ["tool.py", "--some_sizes", "[1%]"])
    commands.main(run)
    assert [("run", Options(("1%",)))] == GIVEN
