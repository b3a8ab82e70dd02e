"""The generated reference: it has every key, every verb and every public name, and says what each is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from compress.cli import VERBS
from compress.config import known_keys
from tests.helpers.launching import REPOSITORY, load_recipe
from tools.docs.reference import RECIPES, config_of_verb, described, entry, keys_of, pages, public_names


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    return pages()


def test_every_recipe_has_a_page() -> None:
    assert set(RECIPES) == {path.stem for path in (REPOSITORY / "recipes").glob("*.py")}


@pytest.mark.parametrize("program", [*RECIPES, *VERBS])
def test_a_page_has_every_key_and_says_what_it_means(program: str, reference: dict[str, str]) -> None:
    config = load_recipe(f"recipes/{program}.py").Config if program in RECIPES else config_of_verb(program)
    page = reference[f"{'recipes' if program in RECIPES else 'verbs'}/{program}.md"]
    entries = re.findall(r"^\[?`([\w.]+)`\S*(?: \S+ \})? — (.*)\n: *(.*)$", page, re.MULTILINE)
    assert sorted(name for name, _, _ in entries) == sorted(known_keys(config))
    for name, kind, meaning in entries:
        assert kind, name
        assert meaning, f"{config.__name__}: no docstring says under `Attributes:` what {name} is."


@pytest.mark.parametrize("program", [*RECIPES, *VERBS])
def test_a_page_has_the_help(program: str, reference: dict[str, str]) -> None:
    page = reference[f"{'recipes' if program in RECIPES else 'verbs'}/{program}.md"]
    assert "\n## --help\n\n```text\nusage: " in page
    assert "--help" in page.partition("## --help")[2]


def test_every_public_name_has_an_entry(reference: dict[str, str]) -> None:
    names = public_names()
    assert "remove" in names["compress"]
    assert {"compress.data", "compress.elastic.supernet"} < set(names)
    for package, public in names.items():
        for name in public:
            assert re.search(rf"(::: |#){re.escape(package)}\.{name}\b", reference[f"python/{package}.md"]), name


def test_the_overview_leads_to_every_page_and_says_what_it_is_about(reference: dict[str, str]) -> None:
    links = re.findall(r"^- \[[\w. -]+\]\(([\w/.-]+)\): \S.*[.:]$", reference["index.md"], re.MULTILINE)
    assert set(links) == set(reference) - {"index.md"}


def test_every_page_is_in_the_navigation(reference: dict[str, str]) -> None:
    listed = set(re.findall(r'= "reference/([\w/.-]+\.md)"', (REPOSITORY / "zensical.toml").read_text()))
    assert listed == set(reference)


def test_a_docstring_becomes_markdown() -> None:
    docstring = """Do `a_b` to [c_d].

    Two lines
    are one.

    Here:     there
    Example:  none

    Examples:
      compress do
        it
    """
    assert described(docstring) == (
        "Do `a_b` to \\[c\\_d\\].\n\nTwo lines are one.\n\n```text\nHere:     there\nExample:  none\n```\n\n"
        "Examples:\n\n```text\ncompress do\n  it\n```"
    )


@dataclass(frozen=True)
class Inner:
    """Two of them.

    Attributes:
        steps: how
            many.
        names: which.
    """

    steps: int = 1
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    """All of them.

    Attributes:
        must: a | b.
        first: here.
        second: there.
    """

    must: float | None
    first: Inner = field(default_factory=lambda: Inner(5))
    second: Inner | None = None


def test_a_default_is_what_holds_where_the_key_stands() -> None:
    rows = {key.name: key for key in keys_of(Outer)}
    assert entry(rows["first.steps"]) == "`first.steps`{ #first.steps } — whole number, default `5`\n:   how many.\n\n"
    assert rows["must"][1:4] == ("number or null", "required", "a | b.")
    assert rows["first.steps"][1:4] == ("whole number", "`5`", "how many.")
    assert rows["second"][1:3] == ("keys below, or null", "`null`")
    assert rows["second.steps"].default == "`1`"
    assert rows["second.names"][1:3] == ("list of texts", "`[]`")
