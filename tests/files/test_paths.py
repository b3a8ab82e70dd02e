"""Local paths are told from Hub names and from sentences, and their last component stands for them in public."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compress.files.paths import is_local, last_part, local_paths, public_text


@pytest.mark.parametrize(
    ("place", "local"),
    [
        ("nvidia/parakeet-ctc-0.6b", False), ("gpt2", False), ("learned", False), ("", False),
        ("/data/speech", True), ("./speech", True), ("../speech", True), ("~/speech", True), (".", True),
        ("runs/demo/teacher", True), ("C:\\speech\\digits", True),
    ],
)  # fmt: skip
def test_hub_names_are_no_paths(place: str, local: bool) -> None:
    assert is_local(place) == local


def test_what_exists_here_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "teacher").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_local("runs/teacher")
    assert not is_local("runs/student")


@pytest.mark.parametrize(
    ("path", "name"),
    [("/data/my speech/", "my speech"), ("runs/demo/best", "best"), ("C:\\data\\digits", "digits"), ("a\\b", "b")],
)
def test_the_last_component(path: str, name: str) -> None:
    assert last_part(path) == name


def test_every_path_of_a_file_is_found_and_nothing_else() -> None:
    content = {
        "teacher": "runs/demo/best",
        "teacher_compression": {"teacher": "nvidia/parakeet-ctc-0.6b", "structure": "/home/me/structure.json"},
        "about": "ratio.bytes, ratio.memory: model / baseline and words/s; see https://example.org/a/b",
        "problems": [
            {"file": "train/1.wav", "reason": "'/data/speech/train/1.wav' is empty"},
            {"file": "/data/my speech/2.wav", "reason": "silent"},
        ],
        "worst": [{"id": "/other/3.wav", "reference": "this and/or that"}],
    }
    found = ["runs/demo/best", "/home/me/structure.json", "/data/speech/train/1.wav", "/data/my speech/2.wav"]
    assert list(local_paths(content)) == [*found, "/other/3.wav"]


def test_they_are_shortened_in_json_markdown_and_html() -> None:
    path = "/home/me/größe & <x> *2*"
    texts = {
        json.dumps({"a": path, "b": path + "/1.wav"}): {"a": "größe & <x> *2*", "b": "größe & <x> *2*/1.wav"},
        json.dumps({"a": path}, ensure_ascii=False): {"a": "größe & <x> *2*"},
    }
    for text, expected in texts.items():
        assert json.loads(public_text(text, [path])) == expected
    assert public_text("<b>/home/me/größe &amp; &lt;x&gt; *2*</b>", [path]) == "<b>größe &amp; &lt;x&gt; *2*</b>"
    assert public_text("# /home/me/größe & &lt;x> \\*2\\*", [path]) == "# größe & &lt;x> \\*2\\*"
    assert public_text("nvidia/parakeet. ./a", ["."]) == "nvidia/parakeet. ./a"


def test_a_relative_path_is_none_within_a_name_of_the_hub() -> None:
    """It still is one at the beginning, in quotes, and behind line ends as JSON writes them."""
    said = "a/parakeet of nvidia/parakeet, 'a/parakeet'\na/parakeet"
    public = "parakeet of nvidia/parakeet, 'parakeet'\nparakeet"
    assert public_text(said, ["a/parakeet"]) == public
    assert json.loads(public_text(json.dumps([said]), ["a/parakeet"])) == [public]
