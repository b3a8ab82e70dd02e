"""report.html: self-contained, escaped, and quiet in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.evaluation.figures import blocks_figure, difference_figure, rates_figure
from compress.evaluation.page import page_of
from compress.evaluation.report import Report
from compress.reports.html import render_html
from compress.structure import MODULES
from tools.web.browser import find_chromium, visit

MakeReport = Callable[..., Report]
MEASURES = {
    "figures": "document.querySelectorAll('svg.figure').length",
    "cells": "document.querySelectorAll('svg .frame').length",
    "words": "document.querySelectorAll('.word').length",
    "overflow": "document.documentElement.scrollWidth - document.documentElement.clientWidth",
    "text": "document.body.innerText",
}


@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_quiet_in_chromium(make_report: MakeReport, tmp_path: Path, width: int):
    """No console message, no request but the page itself, every figure there, and no sideways scrolling."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine (looked for chromium, google-chrome and the like)")
    report = make_report()
    page = tmp_path / "report.html"
    page.write_text(render_html(page_of(report)), encoding="utf-8")
    seen = visit(chromium, page, tmp_path / "profile", width, MEASURES)
    assert seen.messages == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [page.as_uri()]
    assert seen.values["figures"] == 3
    assert seen.values["cells"] == len(report["model"]["blocks"]) * len(MODULES)
    assert seen.values["words"] > len(report["worst"])
    assert seen.values["overflow"] == 0
    assert "broken <b>.flac" in seen.values["text"]


@pytest.mark.parametrize("baseline", [True, False])
def test_page_refers_to_nothing_outside(make_report: MakeReport, baseline: bool):
    page = render_html(page_of(make_report(baseline=baseline)))
    assert not re.search(r"https?://|//[a-z]+\.|@import|<script|<iframe|<img|url\((?!#)", page)
    assert set(re.findall(r'(?:href|src)="([^"]*)"', page)) == {"data:,"}


def test_page_escapes_what_comes_from_files(make_report: MakeReport):
    report = make_report(utterances=20)
    hostile = "<script>alert(1)</script>"
    report["model"]["name"] = report["worst"][0]["id"] = hostile
    report["worst"][0]["model"]["alignment"][0] = ["substitute", hostile, hostile]
    assert "<script" not in render_html(page_of(report))


@pytest.mark.parametrize(
    ("end", "words"), [("logits", "through the whole model"), ("encoder", "to the end of the encoder")]
)
def test_the_page_says_what_macs_end_with(make_report: MakeReport, end: str, words: str):
    report = make_report(baseline=False)
    report["model"]["macs_end"] = end
    [macs] = [condition.text for condition in page_of(report).conditions if condition.name == "MACs"]
    assert words in macs


def test_page_without_errors_or_baseline(make_report: MakeReport):
    """A perfect model on its own: no worst utterances, no division by zero."""
    report = make_report(baseline=False)
    entry = report["model"]
    entry |= {"wer": 0.0, "cer": 0.0, "wer_ci95": [0.0, 0.0], "substitutions": 0, "deletions": 0, "insertions": 0}
    report["worst"] = []
    page = render_html(page_of(report))
    assert "Worst utterances" not in page
    assert "baseline</" not in page


@pytest.mark.parametrize("blocks", [4, 17, 60])
def test_blocks_figure_stays_inside_its_frame(make_report: MakeReport, blocks: int):
    report = make_report(blocks=blocks, utterances=10)
    figure = blocks_figure(report["model"])
    for rect in [*figure.bars, *figure.outlines, *(cell.frame for cell in figure.cells)]:
        assert rect.width > 0
        assert rect.x >= figure.axis_left
        assert rect.x + rect.width <= figure.axis_right + 0.01
        assert 0 <= rect.y <= rect.y + rect.height <= figure.height
    states = {cell.state for cell in figure.cells}
    assert "kept" in states
    assert "dropped" in states


def test_intervals_are_drawn_in_order_and_on_the_axis(make_report: MakeReport):
    report = make_report()
    for figure in (rates_figure(report), difference_figure(report)):
        for whisker in figure.whiskers:
            assert 0 < whisker.low <= whisker.at <= whisker.high < figure.width
        assert len(figure.ticks) >= 2
    assert difference_figure(report).zero is not None


def test_equal_models_still_get_an_axis(make_report: MakeReport):
    report = make_report()
    report["difference"] |= {"wer": 0.0, "wer_ci95": [0.0, 0.0]}
    assert len(difference_figure(report).ticks) >= 2


def test_the_browser_would_notice(tmp_path: Path):
    """The same visit to a page that misbehaves, so that the silence above means something."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this machine (looked for chromium, google-chrome and the like)")
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('oh'); undefined.no()</script>")
    seen = visit(chromium, page, tmp_path / "profile", 800, {})
    assert "http://127.0.0.1:9/x.png" in seen.requests
    assert len(seen.messages) >= 2
