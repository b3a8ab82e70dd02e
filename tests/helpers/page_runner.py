"""Runs the blocks of pages: one process imports everything once, and each page and each command is a fork of it.

`python -m tests.helpers.page_runner SOCKET` listens there until it is ended. A request is a JSON object with the
descriptors of its output; the answer is its exit code. See tests/docs/test_blocks.py for what pages can do.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import compress
from compress.cli import main

MOST_BYTES = 1 << 20
COMMANDS = ("compress", "accelerate", "torchrun")
_CLIENT = """\
#!{python} -IS
import json, os, socket, sys
request = {{"words": [{name!r}, *sys.argv[1:]], "folder": os.getcwd(), "environment": dict(os.environ)}}
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    sys.exit(int(server.recv(16) or 1))
"""


def write_commands(folder: Path, path: str) -> None:
    """Writes the programs that stand first on the PATH of shell blocks: each hands its words to the server."""
    folder.mkdir()
    for name in COMMANDS:
        program = folder / name
        program.write_text(_CLIENT.format(python=sys.executable, name=name, path=path))
        program.chmod(0o755)


def ask(path: str, request: dict[str, Any], output: int, timeout: float) -> int:
    """Sends a request whose output goes to a descriptor; returns the exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(timeout)
        server.connect(path)
        with Path(os.devnull).open() as nothing:
            socket.send_fds(server, [json.dumps(request).encode()], [nothing.fileno(), output, output])
        return int(server.recv(16) or 1)


def serve(path: str) -> None:
    """Answers requests, each in a process of its own."""
    ours = (module.name for module in pkgutil.walk_packages(compress.__path__, "compress."))
    for name in (*ours, "accelerate.commands.launch", "evaluate", "jiwer", "tests.helpers.warm"):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    gc.freeze()  # what has been imported is not looked through again in every fork
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        while True:
            connection, _ = server.accept()
            if not os.fork():
                server.close()
                answer(connection)
            connection.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def answer(connection: socket.socket) -> None:
    """Does what one request asks for, and ends this process."""
    message, descriptors, _, _ = socket.recv_fds(connection, MOST_BYTES, 3)
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
    request = json.loads(message)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    code = 1
    try:
        code = run_page(request["blocks"]) if "blocks" in request else run_command(request["words"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send(str(code).encode())
        os._exit(code)


def run_page(blocks: Sequence[dict[str, Any]]) -> int:
    """Runs the blocks of a page in turn, up to the first that fails; its Python blocks share their names."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        sys.stdout.write(f"--- {block['place']}\n")
        sys.stdout.flush()
        if block["language"].startswith("py"):
            code = "\n" * block["line"] + block["code"]
            exec(compile(code, block["page"], "exec"), names)
        elif code := subprocess.run(["bash", "-euo", "pipefail", "-c", block["code"]], check=False).returncode:
            return code
    return 0


def run_command(words: Sequence[str]) -> int:
    """Runs `compress ...`, or the recipe of `accelerate launch ...` or `torchrun ...`, as one process."""
    small = json.loads(os.environ["SMALL"])
    if words[0] == "compress":
        meant = [key for key in small if key.split()[:2] == words[:2] and set(key.split()) <= set(words)]
        return main([*words[1:], *(option for key in meant for option in small[key])])
    recipe, *options = recipe_and_options(words)
    sys.argv = [recipe, *options]
    for key, options in small.items():
        if any(key in word for word in sys.argv):
            sys.argv += options
    runpy.run_path(recipe, run_name="__main__")
    return 0


def recipe_and_options(words: Sequence[str]) -> list[str]:
    """The words behind a launcher's own, which its parser has accepted."""
    if words[0] == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        if words[1] != "launch":
            raise ValueError(f"only `accelerate launch` is run, not `{' '.join(words[:2])}`")
        options = launch_command_parser().parse_args(list(words[2:]))
    else:
        from torch.distributed.run import get_args_parser

        options = get_args_parser().parse_args(list(words[1:]))
    return [options.training_script, *options.training_script_args]


if __name__ == "__main__":
    serve(sys.argv[1])
