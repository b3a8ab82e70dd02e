"""The runtime in JavaScript, which npm installs into the build folder; nothing of it lies with the sources."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from compress.files.reading import read_object
from tools.results import REPOSITORY

SOURCES = Path(__file__).resolve().parent
BUILD = REPOSITORY / "build" / "web"
MODULES = BUILD / "node_modules"
RUNTIME = "@huggingface/transformers"
INSTALL = "python -m tools.web_page install"


def asked_version() -> str:
    """The version of the runtime that package.json asks for."""
    return str(read_object(SOURCES / "package.json")["dependencies"][RUNTIME])


def lacking(*programs: str) -> str:
    """What running exports in JavaScript lacks here, in words; empty where all is there.

    Args:
        programs: that are needed beside the packages.
    """
    for program in programs:
        if shutil.which(program) is None:
            return f"{program} is not installed"
    manifest = MODULES / RUNTIME / "package.json"
    if not manifest.exists() or read_object(manifest)["version"] != asked_version():
        return f"{RUNTIME} {asked_version()} is not in {MODULES.relative_to(REPOSITORY)}: {INSTALL}"
    return ""


def install() -> None:
    """Installs what package.json asks for, unless it is there; no package may run a script of its own.

    Raises:
        ValueError: if there is no npm, or it fails.
    """
    if not lacking():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("npm is not installed; it comes with node, from your system's packages or nodejs.org.")
    BUILD.mkdir(parents=True, exist_ok=True)
    shutil.copy(SOURCES / "package.json", BUILD)
    words = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    done = subprocess.run(words, cwd=BUILD, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"npm could not install {RUNTIME} {asked_version()}:\n{done.stderr.strip()}")
