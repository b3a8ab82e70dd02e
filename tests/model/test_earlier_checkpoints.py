"""Checkpoints written before 0.1.0 (at f0b3048) load as they did, by every route, and compute what they computed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from compress.checkpoint import load_model
from compress.conformers import frame_outputs
from tests.helpers.routes import check_cases

WRITTEN = Path(__file__).resolve().parents[1] / "fixtures" / "f0b3048"
EXPECTED = load_file(WRITTEN / "expected.safetensors")
INPUTS = {name: EXPECTED[name] for name in ("input_features", "attention_mask")}


def test_the_stock_route_loads_with_the_package() -> None:
    assert torch.allclose(frame_outputs(load_model(str(WRITTEN / "stock")), INPUTS), EXPECTED["stock"], atol=1e-6)


@pytest.mark.parametrize("size", ["half", "3"])
def test_the_code_route_loads_with_the_package(size: str) -> None:
    """The checkpoint has two sizes with batch norms of their own, lost a block, and skips blank frames."""
    model = load_model(str(WRITTEN / "code"))
    assert list(model.sizes) == ["half", "3"]
    model.activate(size)
    assert torch.allclose(frame_outputs(model, INPUTS), EXPECTED[f"code/{size}"], atol=1e-6)


def test_they_load_without_the_package(tmp_path: Path) -> None:
    """`code` by its own modelling file of then, `stock` by the original class alone."""
    cases = []
    for route, outputs in (("code", "code/3"), ("stock", "stock")):
        folder, tensors = shutil.copytree(WRITTEN / route, tmp_path / route), tmp_path / f"{route}.safetensors"
        save_file(INPUTS | {"outputs": EXPECTED[outputs]}, tensors)
        paths = {"folder": str(folder), "tensors": str(tensors), "again": str(tmp_path / f"{route}-again")}
        checks = {"auto": "AutoModelForCTC", "checks": ["loads", "saved_again"]}
        cases.append({"name": route, "route": route, **paths, **checks})
    found = check_cases(cases, tmp_path)["results"]
    assert found == {route: {"loads": "ok", "saved_again": "ok"} for route in ("code", "stock")}
