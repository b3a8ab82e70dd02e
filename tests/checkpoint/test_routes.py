"""Every route of every family in fresh processes: the checks of helpers/route_checks.py, with and without `compress`.

Without: the process is told that there is no `compress`, so that importing it fails there as in an environment without
it (route_matrix.py builds such environments, and several versions of transformers in them).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compress.checkpoint import load_model
from compress.conformers import frame_outputs
from tests.helpers.routes import build_cases, check_cases
from tests.helpers.tiny import MODELS


def failures(found) -> dict[str, str]:
    return {
        f"{case} {check}": outcome
        for case, outcomes in found["results"].items()
        for check, outcome in outcomes.items()
        if outcome != "ok"
    }


def saved_by_the_package(case, folder: Path):
    """The same checkpoint, loaded with the package and saved by transformers' own method."""
    again = folder / f"{case['route']}-by-package"
    load_model(case["folder"]).save_pretrained(again)
    return case | {"name": f"{case['name']}-by-package", "folder": str(again), "again": str(again) + "-again"}


@pytest.mark.parametrize("name", MODELS)
def test_without_the_package(name: str, tmp_path: Path) -> None:
    cases = build_cases(name, tmp_path)
    without_processor = [saved_by_the_package(case, tmp_path) for case in cases if case["route"] == "code"]
    found = check_cases(cases + [case | {"checks": ["loads"]} for case in without_processor], tmp_path)
    assert not failures(found)
    assert len(found["results"]) == len(cases) + 1
    for case in cases:  # what was saved without the package loads with it
        tensors = load_file(case["tensors"])
        model = load_model(case["again"] + "/twice")
        assert torch.allclose(tensors.pop("outputs"), frame_outputs(model, tensors), atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_with_the_package(name: str, tmp_path: Path) -> None:
    cases = build_cases(name, tmp_path)
    assert not failures(check_cases(cases, tmp_path, "--with-package"))


def test_a_checkpoint_with_code_is_refused_without_consent_and_package(tmp_path: Path) -> None:
    case = build_cases("parakeet", tmp_path)[0]
    assert case["route"] == "code"
    found = check_cases([case | {"route": "stock", "checks": ["loads"]}], tmp_path)["results"]
    assert "trust_remote_code=True" in json.dumps(found)


def test_a_malformed_structure_is_refused_by_the_code_that_travels(tmp_path: Path) -> None:
    case = build_cases("parakeet", tmp_path)[0]
    path = Path(case["folder"]) / "config.json"
    config = json.loads(path.read_text())
    config["structure"]["blocks"][0] = {"ffn1": [10**9], "attention": "all", "conv": None, "ffn2": None}
    path.write_text(json.dumps(config))
    found = check_cases([case | {"checks": ["loads"]}], tmp_path)["results"]
    assert "StructureError: blocks[0].ffn1 keeps unit 1000000000, but the model has 64" in json.dumps(found)
