"""The next aspect is a file and its name in the tuple: a made-up one in a copy of the package, from build to load."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.helpers import forked

PACKAGE = Path(__file__).resolve().parents[2] / "compress"
FILE = '''
"""A made-up aspect: the output of the CTC head times a number of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import structure_of
from compress.running.aspect import Aspect
from compress.structure import Structure


class IsLoud:
    """What a model's class gains."""

    loudness = 1.0


class LoudAspect(Aspect):
    """A model that is louder than others; each block that goes makes it quieter by one."""

    name = "loud"
    fields = ("loud",)
    methods = IsLoud

    def read(self, model: PreTrainedModel) -> int | None:
        """See `Aspect.read`."""
        return getattr(model.config, "loud", None)

    def check(self, model: PreTrainedModel, settings: int) -> None:
        """See `Aspect.check`."""
        if settings < 1:
            raise ValueError(f"A loudness of {settings} cannot be heard.")

    def prepare(self, model: PreTrainedModel, settings: int) -> None:
        """See `Aspect.prepare`."""
        model.loudness = float(settings)
        model.volume = nn.Parameter(torch.ones(1))

    def follow(self, config: PreTrainedConfig, structure: Structure) -> dict[str, Any]:
        """See `Aspect.follow`."""
        loud = getattr(config, "loud", None)
        gone = len(structure_of(config).survivors) - len(structure.survivors)
        return {"loud": loud - gone} if loud else {}

    def take_off(self, model: PreTrainedModel, after: PreTrainedConfig) -> None:
        """See `Aspect.take_off`."""
        if hasattr(model, "volume"):
            del model.volume

    def hand_over(self, model: PreTrainedModel, before: PreTrainedConfig, after: PreTrainedConfig) -> None:
        """See `Aspect.hand_over`."""
        if getattr(after, "loud", None):
            model.volume = nn.Parameter(torch.ones(1))

    def describe(self, model: PreTrainedModel) -> int | None:
        """See `Aspect.describe`."""
        return getattr(model.config, "loud", None)

    def row(self, described: int | None) -> tuple[str, str] | None:
        """See `Aspect.row`."""
        return ("loudness", str(described)) if described else None

    def paragraph(self, described: int | None) -> str | None:
        """See `Aspect.paragraph`."""
        return f"The model is loud ({described})." if described else None


LOUD = LoudAspect()
'''
SCRIPT = """
import sys

assert "compress" not in sys.modules
sys.path.insert(0, sys.argv[2])

from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

import compress
from compress.conformers import original_config, structure_of
from compress.cost import cost_table
from compress.evaluation.inspection import inspect_model, inspection_page
from compress.model.registration import compressed_config
from compress.model.removal import rebuild
from compress.reports.console import show
from compress.structure import Block, Structure
from tests.helpers.tiny import BLOCKS, parakeet

assert Path(compress.__file__).is_relative_to(sys.argv[2])
out = Path(sys.argv[1])
plain, full = parakeet(), Structure.full("parakeet", BLOCKS)
assert not hasattr(plain, "loudness")
loud = rebuild(plain, full, compressed_config(plain.config, structure_of(plain), {"loud": 9}))
assert loud.loudness == 9
assert not hasattr(original_config(loud.config), "loud")
assert cost_table(loud.config).of(full) == cost_table(plain.config).of(full) + 1
small = compress.remove(loud, Structure("parakeet", (None, *[Block()] * (BLOCKS - 1))))
assert small.loudness == 8
assert compress.remove(small, Structure.full("parakeet", BLOCKS - 1)).loudness == 8
small.save_pretrained(out)
again = compress.load_model(str(out))
assert again.loudness == 8
assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in small.state_dict().items())
assert "The model is loud (8)." in (out / "README.md").read_text()
described = inspect_model(str(out))
assert described["loud"] == 8
console = Console(width=100, file=StringIO())
show(inspection_page(described), console)
assert "loudness" in console.file.getvalue()
with pytest.raises(ValueError, match="cannot be heard"):
    rebuild(plain, full, compressed_config(plain.config, structure_of(plain), {"loud": -1}))
"""
ALONE = """
import sys
sys.modules["compress"] = None
from transformers import AutoModelForCTC
model = AutoModelForCTC.from_pretrained(sys.argv[1], trust_remote_code=True)
assert model.loudness == 8
assert "volume" in model.state_dict()
"""


def test_one_file_and_its_name_in_the_tuple_carry_an_aspect_through_everything(tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(PACKAGE, root / "compress", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").symlink_to(PACKAGE.parent / "tests")
    running = root / "compress" / "running"
    (running / "aspect_loud.py").write_text(FILE.lstrip(), encoding="utf-8")
    text = (running / "aspects.py").read_text(encoding="utf-8")
    wider = text.replace("(SKIPPING, SIZES)", "(SKIPPING, SIZES, LOUD)")
    wider = wider.replace("\n\nASPECTS", "\nfrom compress.running.aspect_loud import LOUD\n\nASPECTS", 1)
    assert wider.count("LOUD") == 2
    (running / "aspects.py").write_text(wider, encoding="utf-8")
    for script in (SCRIPT, ALONE):
        words = ["-c", script, str(tmp_path / "loud"), str(root)]
        found = forked.run(words, stranger=True, HF_MODULES_CACHE=str(tmp_path / "modules"))
        assert found.returncode == 0, found.stderr
