"""Every route of every family in fresh processes: the checks of helpers/route_checks.py, with and without `compress`.

Without: the process is told that there is no `compress`, so that importing it fails there as in an environment without
it (route_matrix.py builds such environments, and several versions of transformers in them).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compress.checkpoint import load_model
from compress.conformers import frame_outputs
from tests.helpers.routes import build_cases, check_cases
from tests.helpers.tiny import MODELS

GROUPS = [list(MODELS)[start::3] for start in range(3)]
"""Importing torch and transformers takes longer than what is checked of a model: several models share a process."""
REGISTERED = {"loads", "saved_again", "pipeline"}
"""What depends on the classes that the package registers."""


def failures(found) -> dict[str, str]:
    return {
        f"{case} {check}": outcome
        for case, outcomes in found["results"].items()
        for check, outcome in outcomes.items()
        if outcome != "ok"
    }


def saved_by_the_package(case):
    """The same checkpoint, loaded with the package and saved by transformers' own method."""
    again = Path(case["folder"]).with_name(f"{case['route']}-by-package")
    load_model(case["folder"]).save_pretrained(again)
    return case | {"name": f"{case['name']}-by-package", "folder": str(again), "again": str(again) + "-again"}


def every_case(names: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """The cases of several models, which one process checks one after the other."""
    return [case for name in names for case in build_cases(name, folder / name)]


@pytest.mark.parametrize("names", GROUPS, ids=", ".join)
def test_without_the_package(names: Sequence[str], tmp_path: Path) -> None:
    cases = every_case(names, tmp_path)
    without_processor = [saved_by_the_package(case) for case in cases if case["route"] == "code"]
    found = check_cases(cases + [case | {"checks": ["loads"]} for case in without_processor], tmp_path)
    assert not failures(found)
    assert len(found["results"]) == len(cases) + len(names)
    for case in cases:  # what was saved without the package loads with it
        tensors = load_file(case["tensors"])
        model = load_model(case["again"] + "/twice")
        assert torch.allclose(tensors.pop("outputs"), frame_outputs(model, tensors), atol=1e-6)


@pytest.mark.parametrize("names", GROUPS, ids=", ".join)
def test_with_the_package(names: Sequence[str], tmp_path: Path) -> None:
    """On the stock route the class is that of transformers here, too: what was checked of it above is not repeated."""
    cases = every_case(names, tmp_path)
    for case in cases:
        if case["route"] == "stock":
            case["checks"] = sorted(REGISTERED & set(case.get("checks", REGISTERED)))
    found = check_cases(cases, tmp_path, "--with-package")
    assert not failures(found)
    assert len(found["results"]) == len(cases)


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
