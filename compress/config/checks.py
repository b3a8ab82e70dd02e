"""What configs refuse values with: the name of the key, the value, and what to give instead."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def check(holds: bool, name: str, value: Any, remedy: str, error: type[ValueError] = ValueError) -> None:
    """Refuses a value unless a condition holds.

    Args:
        holds: The condition.
        name: The key, dotted where it stands in a part of a config, for example `speed.seconds`.
        value: What was given.
        remedy: What to give instead, for example `give the length of an utterance, for example 10`.
        error: What is raised.

    Raises:
        ValueError: If the condition does not hold; or `error`, a kind of it.
    """
    if not holds:
        raise error(f"{name} is {value!r}; {remedy}.")


def check_choice(name: str, value: Any, known: Collection[str], error: type[ValueError] = ValueError) -> None:
    """Refuses a word that is not among those known.

    Args:
        name: The key.
        value: What was given.
        known: The words to choose from.
        error: What is raised.

    Raises:
        ValueError: If the word is unknown; or `error`, a kind of it.
    """
    if value not in known:
        raise error(f"{name}={value!r} is unknown; choose one of {', '.join(known)}.")


def check_at_least(
    name: str, value: float | None, least: float, what: str = "", error: type[ValueError] = ValueError
) -> None:
    """Refuses a number below a bound; None, where nothing was given, passes.

    Args:
        name: The key.
        value: What was given.
        least: The bound.
        what: What is counted, for example `utterances`.
        error: What is raised.

    Raises:
        ValueError: If the number is too small; or `error`, a kind of it.
    """
    holds = value is None or value >= least
    check(holds, name, value, f"give at least {least:g}{what and ' '}{what}", error)


def check_positive(
    name: str, value: float | None, what: str = "a number", error: type[ValueError] = ValueError
) -> None:
    """Refuses what is not a number above 0; None, where nothing was given, passes.

    Args:
        name: The key.
        value: What was given.
        what: What is to be given, for example `a number of seconds`.
        error: What is raised.

    Raises:
        ValueError: If the number is not positive; or `error`, a kind of it.
    """
    check(value is None or value > 0, name, value, f"give {what} above 0", error)
