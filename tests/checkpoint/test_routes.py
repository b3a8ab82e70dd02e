"""Every route of every family in processes of their own: the checks of helpers/route_checks.py, with and without us.

Without: the process has never imported `compress` and is told that there is none, so that importing it fails there as
in an environment without it (route_matrix.py builds such environments, and several versions of transformers in them).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from compress.checkpoint import load_model
from compress.conformers import frame_outputs
from tests.helpers.routes import EVERY_CHECK, build_cases, check_cases
from tests.helpers.sharing import shared
from tests.helpers.tiny import MODELS

Cases = list[dict[str, Any]]
EVERY = pytest.mark.parametrize("name", MODELS)
REGISTERED = {"loads", "saved_again", "pipeline"}
"""What depends on the classes that the package registers, and not on what they compute."""
IN_FULL = ("parakeet", "canary")
"""With and without a CTC head: of these every check is repeated with the package, and where the class is not ours."""


@pytest.fixture(scope="session")
def cases_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Cases]:
    """The cases of a model, made once; a test saves them again in a folder of its own."""

    def fill(folder: Path, name: str) -> None:
        (folder / "cases.json").write_text(json.dumps(build_cases(name, folder)))

    def cases(name: str, again: Path) -> Cases:
        folder = shared(tmp_path_factory, f"routes-{name}", partial(fill, name=name))
        made: Cases = json.loads((folder / "cases.json").read_text())
        return [case | {"again": str(again / f"{case['route']}-again")} for case in made]

    return cases


def failures(found: Any) -> dict[str, str]:
    return {
        f"{case} {check}": outcome
        for case, outcomes in found["results"].items()
        for check, outcome in outcomes.items()
        if outcome != "ok"
    }


def saved_by_the_package(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same checkpoint, loaded with the package and saved by transformers' own method."""
    again = folder / f"{case['route']}-by-package"
    load_model(case["folder"]).save_pretrained(again)
    return case | {"name": f"{case['name']}-by-package", "folder": str(again), "checks": ["loads"]}


@EVERY
def test_without_the_package(name: str, cases_of: Callable[[str, Path], Cases], tmp_path: Path) -> None:
    cases = cases_of(name, tmp_path)
    for case in cases:  # that the original's own class compiles does not depend on the numbers in its config
        if case["route"] == "stock" and name not in IN_FULL:
            case["checks"] = sorted(set(case.get("checks", EVERY_CHECK)) - {"compiled"})
    (code,) = (case for case in cases if case["route"] == "code")
    found = check_cases([*cases, saved_by_the_package(code, tmp_path)], tmp_path)
    assert not failures(found)
    assert len(found["results"]) == len(cases) + 1
    for case in cases:  # what was saved without the package loads with it
        tensors = load_file(case["tensors"])
        model = load_model(case["again"] + "/twice")
        assert torch.allclose(tensors.pop("outputs"), frame_outputs(model, tensors), atol=1e-6)


@EVERY
def test_with_the_package(name: str, cases_of: Callable[[str, Path], Cases], tmp_path: Path) -> None:
    """Its classes are made by the sources that the file is made of (test_modelling_file.py): they compute the same.

    On the stock route the class is that of transformers here, too.
    """
    cases = cases_of(name, tmp_path)
    for case in cases:
        if case["route"] == "stock" or name not in IN_FULL:
            case["checks"] = sorted(REGISTERED & set(case.get("checks", REGISTERED)))
    found = check_cases(cases, tmp_path, with_package=True)
    assert not failures(found)
    assert len(found["results"]) == len(cases)


def test_a_checkpoint_with_code_is_refused_without_consent_and_package(
    cases_of: Callable[[str, Path], Cases], tmp_path: Path
) -> None:
    case = cases_of("parakeet", tmp_path)[0]
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
