"""Any page in its three forms: what each shows, leaves out, and escapes."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from compress.reports import html
from compress.reports.bars import Bar, Bars, Share, Stacked, StackedBars, Tile
from compress.reports.console import show
from compress.reports.html import render_html
from compress.reports.markdown import escape, render_markdown, table
from compress.reports.page import (
    Columns,
    Condition,
    Figure,
    Listing,
    Page,
    Panel,
    Section,
    Table,
    Text,
    code,
    short_name,
)
from compress.reports.plots import heat_map, named_rates_figure, spans_figure

RATES = named_rates_figure([("model", "model", 0.05, [0.04, 0.06])])
PAGE = Page(
    title="A model",
    headline="It errs less.",
    sections=[
        Section("First", [Text("Read it with `compress.load_model`."), Table(["what", "how many"], [["rows", "2"]])]),
        Section("Drawn", [Figure(RATES, "Rates", "How to read it.", [("ffn1", "a colour")], Text("In words: 5 %."))]),
        Section("Undrawn", [Columns([Panel("Left", [Figure(RATES, "No words")]), Panel("Right", [])])]),
        Section("Detail", [Listing([("`a.flac`", ["said: one"])])], detail=True),
    ],
    conditions=[Condition("Machine", "`cpu`, 2 cores", in_terminal=True), Condition("Seed", "17")],
    maker="compress measure",
    created="2026-01-02T03:04:05+00:00",
    context="on some speech",
    numbers=Table(
        ["", "model", "aside"], [["WER", "5.00 %", "wide"], ["  deleted", "3", "wide"]], pages_only=["aside"]
    ),
    problems=["`b.flac`: cannot be read"],
    footer="Every number is beside this file.",
)


def on_screen(page: Page, **options: str) -> str:
    console = Console(record=True, width=200, file=io.StringIO())
    show(page, console, **options)
    return console.export_text()


@pytest.mark.parametrize("form", [render_html, render_markdown, on_screen])
def test_every_form_says_what_was_found_and_where(form) -> None:  # type: ignore[no-untyped-def]
    text = form(PAGE)
    for said in ("A model", "on some speech", "It errs less.", "5.00 %", "rows", "2 cores", "cannot be read", "First"):
        assert said in text


def test_where_nothing_is_drawn_words_stand_in_its_place() -> None:
    for text in (render_markdown(PAGE), on_screen(PAGE)):
        assert "In words: 5 %." in text
        assert "How to read it." not in text
        assert "Undrawn" not in text  # a heading with nothing below it
    page = render_html(PAGE)
    assert "In words" not in page
    assert page.count('<svg class="figure"') == 2
    assert "How to read it." in page
    assert '<i class="ffn1"></i>a colour' in page


def test_a_terminal_leaves_details_out_and_a_page_does_not() -> None:
    screen = on_screen(PAGE, written="out: report.json")
    for said in ("Detail", "Seed", "aside", "wide", "`"):
        assert said not in screen
    assert screen.rstrip().endswith("Written to out: report.json.")
    for page in (render_html(PAGE), render_markdown(PAGE)):
        for said in ("Detail", "Seed", "aside", "wide", "said: one"):
            assert said in page


def test_a_terminal_names_ten_problems_and_counts_the_others() -> None:
    screen = on_screen(replace(PAGE, problems=[f"`{number}.flac`: broken" for number in range(13)]))
    assert "Files skipped: 13" in screen
    assert "9.flac: broken" in screen
    assert "10.flac" not in screen
    assert "and 3 more, all in the report." in screen


def test_numbers_come_first_but_behind_the_sections_where_there_are_tiles() -> None:
    numbers = '<td class="left">WER</td>'
    assert render_html(PAGE).index(numbers) < render_html(PAGE).index("<h2>First")
    tile = Tile("Word error rate", "5.0 %", "better", True, Bars([Bar("model", 1.0, "5"), Bar("baseline", 0.5, "3")]))
    tiled = replace(PAGE, tiles=[tile])
    page = render_html(tiled)
    assert page.index('class="pill good"') < page.index("<h2>First") < page.index("All numbers") < page.index(numbers)
    assert page.count('class="track"') == 2
    assert render_markdown(tiled) == render_markdown(PAGE)
    assert render_markdown(PAGE).index("| WER |") < render_markdown(PAGE).index("## First")


def test_a_narrow_terminal_tears_no_word_of_a_header() -> None:
    console = Console(record=True, width=60, file=io.StringIO())
    header = ["CTC head after block", "CTC loss per token", "WER", "95 % interval", "evaluations"]
    show(
        replace(PAGE, sections=[Section("Wide", [Table(header, [["11", "0.2", "5.00 %", "4.0 to 6.0 %", "17"]])])]),
        console,
    )
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 60
    for word in {word for name in header for word in name.split()}:
        assert word in text


def test_code_and_what_looks_like_markup() -> None:
    hostile = replace(PAGE, title="<script>a|b*c</script>", headline="<script>", problems=[code("<script>`|")])
    assert "<script" not in render_html(hostile)
    assert "<code>compress.load_model</code>" in render_html(PAGE)
    assert "`compress.load_model`" in render_markdown(PAGE)
    assert "# &lt;script>a\\|b\\*c&lt;/script>" in render_markdown(hostile)
    assert escape("a*b `a*b`") == "a\\*b `a*b`"
    assert code("a`b") == "`a'b`"


def test_markdown_tables() -> None:
    lines = table(["name", "what", "number"], [["a|b", "`c`", "1"]], left=2).splitlines()
    assert lines == ["| name | what | number |", "| --- | --- | ---: |", "| a\\|b | 'c' | 1 |"]


def test_pages_without_what_may_be_missing() -> None:
    bare = Page("Title", "Headline.", [], [], "compress measure")
    assert "Conditions" not in render_html(bare)
    assert render_markdown(bare) == "# Title\n\nHeadline.\n"
    assert on_screen(bare).split() == ["Title", "Headline."]


@pytest.mark.parametrize(
    "drawing",
    [
        RATES,
        heat_map([[1.0, 0.5], [0.5, 1.0]], [(0, 1)]),
        spans_figure([(0, "conv", "blocks.0.conv", [(0, 2)])], 4),
        Bars([Bar("model", 1.0, "5")]),
        StackedBars([Stacked("model", [Share("delete", 50.0, "half")], "1 + 1")]),
    ],
)
def test_every_drawing_says_what_it_shows(drawing) -> None:  # type: ignore[no-untyped-def]
    page = render_html(replace(PAGE, sections=[Section("Drawn", [Figure(drawing, "What it shows")])]))
    assert 'aria-label="What it shows"' in page
    assert not re.search(r"\{\{|\{%|<bound|object at", page)


def test_names_are_as_short_as_they_can_be_recognised() -> None:
    assert short_name("/somewhere/runs/demo/student/final") == "student/final"
    assert short_name("someone/large") == "someone/large"


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_numbers_inside_of_bars_can_be_read() -> None:
    """By WCAG 2, a contrast of 4.5 is enough for small text."""
    light, dark = re.findall(r":root \{(.*?)\n *\}", render_html(PAGE), re.DOTALL)[:2]
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        on = luminance(colours["surface"])
        for name in ("ffn1", "attention", "conv", "ffn2"):
            lighter, darker = sorted((on, luminance(colours[name])), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (name, colours)


def test_letters_stand_out_by_day_and_by_night() -> None:
    """WCAG asks for a ratio of 4.5."""
    style = (Path(html.__file__).parent / "templates/style.css").read_text()
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    pairs = [*itertools.product(("text", "muted"), ("page", "surface", "plain-bg")),
             *((name, f"{name}-bg") for name in ("good", "bad", "substitute", "delete", "insert"))]  # fmt: skip
    for colours in (light, dark.partition("* {")[0]):
        value = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", colours))
        for letters, ground in pairs:
            low, high = sorted((luminance(value[letters]), luminance(value[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (letters, ground)
