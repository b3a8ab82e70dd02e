"""Loads checkpoints of every family and route in environments without our package, one per version of transformers.

    python tools/route_matrix.py --results RESULTS.md
    python tools/route_matrix.py --versions [5.18.0,5.23.0] --venv route-venv

Makes a virtual environment with torch, torchaudio and accelerate, installs one version of transformers after the other
in it, and runs `route_checks.py` there on checkpoints of tiny random models that this environment has compressed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonargparse
from add_result import append_entry, facts
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.helpers.routes import build_cases, check_cases  # noqa: E402
from tests.helpers.tiny import MODELS  # noqa: E402

PINNED = ("torch", "torchaudio", "accelerate", "numpy")
LIBROSA, LIBROSA_UNTIL = "librosa", Version("5.23")  # before it the features of Parakeet need librosa
NEWEST = "newest"


def main(
    *,
    versions: list[str] | None = None,
    venv: str | None = None,
    models: list[str] | None = None,
    results: str | None = None,
    title: str = "Loading compressed checkpoints without this package",
) -> None:
    """Prints a table, and appends it to a file of results.

    Args:
        versions: of transformers, `newest` among them; by default the oldest that this package allows and the newest.
        venv: folder of the environment, which is kept; by default a new one that is deleted.
        models: names in tests/tiny.py; all by default.
        results: the file to append to.
        title: heading of the entry.
    """
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        cases = [case for model in models or MODELS for case in build_cases(model, _made(work / model))]
        python = make_environment(Path(venv) if venv else work / "venv")
        found: dict[str, Any] = {}
        for version in versions or [oldest_declared(), NEWEST]:
            installed = install_transformers(python, version)
            if installed not in found:  # the oldest can be the newest
                found[installed] = check_cases(cases, work, python=str(python))["results"]
    lines = table(found)
    print("\n".join(lines))
    if results:
        command = f"python tools/route_matrix.py --versions [{','.join(found)}]"
        data = "tiny random models of every family, compressed to random Structures (code) and uniform ones (stock)"
        note = "2 CPU cores; a virtual environment without the package, in which transformers was exchanged"
        append_entry(Path(results), title, [*facts(command, data, note), *lines])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def oldest_declared() -> str:
    """The oldest transformers that this package allows on this Python."""
    for requirement in map(Requirement, metadata.requires("conformer-compress") or ()):
        if requirement.name == "transformers" and (requirement.marker is None or requirement.marker.evaluate()):
            return next(one.version for one in requirement.specifier if one.operator == ">=")
    raise ValueError("This package declares no transformers for this Python.")


def make_environment(folder: Path) -> Path:
    """Makes a virtual environment with what a reader of checkpoints has; returns its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.split("==")[0] in PINNED]
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


def table(found: dict[str, Any]) -> list[str]:
    """One row per checkpoint, one column per version: how many checks passed, and which did not."""
    lines = ["| checkpoint (model/route) | " + " | ".join(f"transformers {version}" for version in found) + " |"]
    lines.append("|---|" + "---|" * len(found))
    for name in next(iter(found.values())):
        lines.append(f"| {name} | " + " | ".join(_cell(outcomes[name]) for outcomes in found.values()) + " |")
    checks = ", ".join(next(iter(next(iter(found.values())).values())))
    return [*lines, "", f"Checks, each with the checkpoint loaded anew: {checks}."]


def _cell(outcomes: dict[str, str]) -> str:
    failed = {check: outcome for check, outcome in outcomes.items() if outcome != "ok"}
    passed = f"{len(outcomes) - len(failed)} of {len(outcomes)}"
    return "; ".join([passed, *(f"{check}: {outcome.splitlines()[0][:80]}" for check, outcome in failed.items())])


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
