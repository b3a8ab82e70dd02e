"""Loads checkpoints of every family and route in environments without our package, one per version of transformers.

    python -m tests.checkpoint.route_matrix --results RESULTS.md
    python -m tests.checkpoint.route_matrix --versions [5.18.0,5.23.0] --venv route-venv

Makes a virtual environment with torch, torchaudio and accelerate, installs one version of transformers after the other
in it, and runs `tests/helpers/route_checks.py` there on checkpoints of tiny random models that this environment has
compressed. pytest does not collect it: it needs a package index and takes its time.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tests.helpers.routes import build_cases, check_cases
from tests.helpers.tiny import MODELS
from tools.commands import main
from tools.results import REPOSITORY, EntryConfig, add, facts, grid

PINNED = ("torch", "torchaudio", "accelerate", "numpy")
LIBROSA, LIBROSA_UNTIL = "librosa", Version("5.23")  # before it the features of Parakeet need librosa
NEWEST = "newest"
Outcomes = dict[str, dict[str, dict[str, str]]]
"""By version of transformers, checkpoint and check: "ok" or what went wrong."""


@dataclass(frozen=True, kw_only=True)
class MatrixConfig(EntryConfig):
    """What is checked, and the entry that holds it.

    Attributes:
        versions: Of transformers, `newest` among them; null: the oldest that this package allows and the newest.
        venv: Folder of the environment, which is kept; null: a new one that is deleted.
        models: Names in tests/helpers/tiny.py; null: all.
    """

    versions: tuple[str, ...] | None = None
    venv: str | None = None
    models: tuple[str, ...] | None = None
    title: str = "Loading compressed checkpoints without this package"
    note: str = "2 CPU cores; a virtual environment without the package, in which transformers was exchanged"


def route_matrix(config: MatrixConfig) -> None:
    """Prints a table, and appends it to a file of results."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        cases = [case for model in config.models or MODELS for case in build_cases(model, _made(work / model))]
        python = make_environment(Path(config.venv) if config.venv else work / "venv")
        outcomes: Outcomes = {}
        for version in config.versions or (oldest_declared(), NEWEST):
            installed = install_transformers(python, version)
            if installed not in outcomes:  # the oldest can be the newest
                outcomes[installed] = check_cases(cases, work, python=str(python))["results"]
    lines = table(outcomes)
    sys.stdout.write("\n".join([*lines, ""]))
    command = f"python -m tests.checkpoint.route_matrix --versions [{','.join(outcomes)}]"
    data = "tiny random models of every family, compressed to random Structures (code) and uniform ones (stock)"
    add(config, [*facts(command, data, config.note), *lines])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def oldest_declared() -> str:
    """The oldest transformers that this package allows on this Python."""
    for requirement in map(Requirement, metadata.requires("conformer-compress") or ()):
        if requirement.name == "transformers" and (requirement.marker is None or requirement.marker.evaluate()):
            return next(bound.version for bound in requirement.specifier if bound.operator == ">=")
    raise ValueError("This package declares no transformers for this Python.")


def make_environment(folder: Path) -> Path:
    """Makes a virtual environment with what a reader of checkpoints has; returns its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pins = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if line.split("==")[0] in PINNED]
    _pip(python, *pins)
    absent = "import importlib.util as u; assert u.find_spec('compress') is None"
    subprocess.run([str(python), "-I", "-c", absent], check=True)
    return python


def install_transformers(python: Path, version: str) -> str:
    """Installs one version, `newest` being the newest that there is, and returns which it is."""
    subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", LIBROSA], check=True)
    if version == NEWEST:
        _pip(python, "--upgrade", "transformers<6")
    else:
        extra = [LIBROSA] if Version(version) < LIBROSA_UNTIL else []
        _pip(python, f"transformers=={version}", *extra)
    command = [str(python), "-c", "from importlib.metadata import version; print(version('transformers'))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _pip(python: Path, *words: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True)


def table(outcomes: Outcomes) -> list[str]:
    """One row per checkpoint, one column per version: how many checks passed, and which did not."""
    checkpoints = next(iter(outcomes.values()))
    names = ("checkpoint (model/route)", *(f"transformers {version}" for version in outcomes))
    rows = [[name, *(_cell(of_version[name]) for of_version in outcomes.values())] for name in checkpoints]
    checks = ", ".join(next(iter(checkpoints.values())))
    return [*grid(names, rows), f"Checks: {checks}."]


def _cell(outcomes: dict[str, str]) -> str:
    failed = {check: outcome for check, outcome in outcomes.items() if outcome != "ok"}
    passed = f"{len(outcomes) - len(failed)} of {len(outcomes)}"
    return "; ".join([passed, *(f"{check}: {outcome.splitlines()[0][:80]}" for check, outcome in failed.items())])


if __name__ == "__main__":
    main(route_matrix)
