"""The modelling file: made of the package's own sources, complete, readable, and without imports of the package."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from compress import structure
from compress.conformers import FAMILIES
from compress.model import classes as model_classes
from compress.model.modelling_file import modelling_file
from compress.surgery import slicing

ROOT = Path(__file__).resolve().parents[2]
EVERY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@EVERY
def test_it_imports_only_what_the_original_model_needs(family) -> None:
    allowed = {"torch", "transformers"} | ({"torchaudio"} if family.name == "torchaudio_conformer" else set())
    modules = set()
    for node in ast.walk(ast.parse(modelling_file(family))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            modules.add(str(node.module).split(".")[0])
    assert modules - allowed <= set(sys.stdlib_module_names)


@EVERY
def test_it_is_formatted_and_has_every_name_it_uses(family, tmp_path: Path) -> None:
    file = tmp_path / "modeling_compressed.py"
    file.write_text(modelling_file(family))
    config = ["--config", str(ROOT / "pyproject.toml"), str(file)]
    for command in (["check", "--select", "E,F,I,W"], ["format", "--check"]):
        found = subprocess.run([sys.executable, "-m", "ruff", *command, *config], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


@EVERY
def test_it_is_made_of_the_sources(family) -> None:
    text = modelling_file(family)
    for one in (slicing.shrink_, structure.Structure, model_classes.compressed_classes):
        assert inspect.getsource(one).strip() in text
    assert text == modelling_file.__wrapped__(family)
    assert ast.get_docstring(ast.parse(text)).count(f"{family.auto_class}.from_pretrained") == 1
    others = [other.model_class for other in FAMILIES if other is not family]
    # some families are described by what distinguishes them from another one, or from one that is such
    assert sum(f'"{name}"' in text for name in others) <= 2


@EVERY
def test_what_a_new_model_looks_like_stays_at_home(family) -> None:
    text = modelling_file(family)
    assert not [word for word in ("NewModel", "NEW_", "FeatureExtractor", "Processor") if word in text]


def test_it_loads_nothing_but_json_and_safetensors() -> None:
    """The text that a stranger is asked to trust holds no way to run or fetch anything."""
    for family in FAMILIES:
        for word in ("pickle", "eval(", "exec(", "torch.load", "subprocess", "os.", "urllib", "requests", "__import__"):
            assert word not in modelling_file(family).replace("model.eval()", "")
