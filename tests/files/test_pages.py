"""Pages of mapped files are given back when the tensor that lay in them is gone; all else is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from compress.files import pages
from compress.files.pages import give_back_when_gone

COUNT = 1 << 18

pytestmark = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what of a file is mapped")


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, Tensor]:
    save_file({name: torch.ones(COUNT) for name in "ab"}, tmp_path / "weights.safetensors")
    with safe_open(tmp_path / "weights.safetensors", framework="pt") as file:
        return {name: file.get_slice(name)[...] for name in "ab"}


def test_a_tensor_in_a_file_gives_its_pages_back(mapped: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(pages, "_give_back", lambda *place: given.append(place))
    place = (mapped["a"].data_ptr(), 4 * COUNT)
    give_back_when_gone(mapped.values())
    assert not given
    del mapped["a"]
    assert given == [place]


def test_what_is_given_back_can_be_read_again(mapped: dict[str, Tensor]) -> None:
    """The advice changes nothing: another view of the same pages still has what the file says."""
    view, other = mapped["a"][1:], mapped["b"]
    give_back_when_gone(mapped.values())
    mapped.clear()
    assert view.sum() == COUNT - 1
    assert other.sum() == COUNT


def test_memory_that_is_no_files_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(pages, "_give_back", lambda *place: given.append(place))
    tensors = [torch.ones(COUNT), torch.ones(COUNT, device="meta")]
    give_back_when_gone(tensors)
    tensors.clear()
    assert not given
