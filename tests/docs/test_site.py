"""`make docs` fails on what is wrong with the documentation: each fault planted on a page of its own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.pages import REPOSITORY
from tools.docs.build import SITE, build
from tools.docs.site import problems

pytest.importorskip("zensical", reason="needs the optional dependencies `docs`, and Python 3.11")

SOUND = """
# A heading

[A page](other.md), [an anchor](other.md#there), [here](#a-heading), [elsewhere](https://example.org/nothing),
`[code][is none]`, [another name][compress.remove], ![an image](image.svg).
"""
OTHER = "# Other\n\n## There\n\n::: compress.remove\n"
IMAGE = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
FAULTS = {
    "page": ("[a page](gone.md)", "page does not exist"),
    "anchor": ("[an anchor](other.md#gone-anchor)", "anchor does not exist"),
    "own-anchor": ("[an anchor](#gone-anchor-here)", "anchor does not exist"),
    "image": ("![an image](gone.svg)", "shows gone.svg"),
    "reference": ("[a name][compress.gone]", "compress.gone"),
    "short-reference": ("[compress.gone_too][]", "compress.gone_too"),
    "html-page": ('<a href="gone-html.html">x</a>', "gone-html.html leads nowhere"),
    "html-anchor": ('<a href="other.html#gone-html-anchor">x</a>', "without the anchor gone-html-anchor"),
    "html-image": ('<img src="gone-html.png">', "shows gone-html.png"),
    "script": ('<script src="https://example.org/script.js"></script>', "fetches https://example.org/script.js"),
}


def built(folder: Path, pages: dict[str, str]) -> str:
    """What building such pages, and checking the result, complains of."""
    shutil.copytree(REPOSITORY / "docs/stylesheets", folder / "build/docs/stylesheets")
    for name, text in ({"image.svg": IMAGE} | pages).items():
        (folder / "build/docs" / name).write_text(text)
    config = (REPOSITORY / "zensical.toml").read_text()
    config = re.sub(r"^nav = \[.*?^\]$", "", config, flags=re.MULTILINE | re.DOTALL)
    (folder / "zensical.toml").write_text(config.replace('paths = ["."]', f'paths = ["{REPOSITORY}"]'))
    return "\n".join([*build(folder / "zensical.toml"), *problems(folder / "build" / SITE)])


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    faults = {f"{name}.md": f"# Fault\n\n{text}\n" for name, (text, _) in FAULTS.items()}
    return built(tmp_path_factory.mktemp("faults"), {"index.md": SOUND, "other.md": OTHER} | faults)


def test_sound_pages_have_no_complaint(tmp_path: Path) -> None:
    assert built(tmp_path, {"index.md": SOUND, "other.md": OTHER}) == ""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told(fault: str, complaints: str) -> None:
    assert FAULTS[fault][1] in complaints
    assert f"{fault}.md" in complaints or f"{fault}.html" in complaints


def test_a_name_that_the_code_has_not_is_told(tmp_path: Path) -> None:
    assert "compress.nothing could not be found" in built(tmp_path, {"index.md": "# Home\n\n::: compress.nothing\n"})


def test_the_site_fetches_nothing_and_every_page_is_in_the_navigation() -> None:
    config = (REPOSITORY / "zensical.toml").read_text()
    assert "\nfont = false" in config
    listed = set(re.findall(r'= "([\w/.]+\.md)"', config))
    written = {str(path.relative_to(REPOSITORY / "docs")) for path in (REPOSITORY / "docs").rglob("*.md")}
    assert written <= listed


BESIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RESULTS.md")


def anchors(page: Path) -> set[str]:
    """The anchors of a page where Markdown is shown as it is: those that it names, and those of its headings."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return set(re.findall(r'<a id="([^"]+)"', text)) | {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("name", BESIDE)
def test_links_of_pages_beside_the_documentation_lead_somewhere(name: str) -> None:
    text = re.sub(r"^```.*?^```", "", (REPOSITORY / name).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        path, _, anchor = link.partition("#")
        if "://" not in link:
            target = REPOSITORY / (path or name)
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
