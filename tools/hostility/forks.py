"""One mutation in a process of its own: how it ended, and what was said."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import resource
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compress.config import known_keys
from compress.training.supervised import SupervisedConfig
from tools.hostility.kind import Kind

GIBIBYTE, SECONDS = 1 << 30, 20


class Words(logging.Handler):
    """Keeps the warnings that were logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps one."""
        self.said.append(record.getMessage())


def in_a_fork(work: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """Runs work in a process of its own, with limits of time and memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + GIBIBYTE, used + GIBIBYTE))
        signal.alarm(SECONDS)
        result = ("memory", "MemoryError")
        with contextlib.suppress(MemoryError):
            result = work()
        os.write(writer, json.dumps(result)[: 1 << 15].encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        written = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return ("time" if number == signal.SIGALRM else "signal"), signal.Signals(number).name
    outcome, said = json.loads(written) if written else ("signal", "no answer")
    return outcome, said


def outcome(kind: Kind, folder: Path, whole: Any) -> tuple[str, str]:
    """Reads a folder as the package does, and says how that ended.

    Args:
        kind: of input.
        folder: with the mutation.
        whole: what was read without it.
    """
    errors, words = io.StringIO(), Words()
    logging.getLogger().addHandler(words)
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            result = kind.read(folder)
            lost = kind.loss(folder, result, whole)
    except SystemExit:
        return _judged(errors.getvalue(), folder)
    except (ValueError, OSError) as error:
        return _judged(str(error)[:2000], folder)
    except MemoryError:
        raise
    except Exception:
        return "traceback", traceback.format_exc()[-1500:]
    return (kind.lost_is, lost) if lost and not words.said else ("accepted", "")


def _judged(message: str, folder: Path) -> tuple[str, str]:
    """Whether a message names what is wrong: a file, the folder, or a key."""
    names = [str(folder), " is ", 'Parser key "', "arguments are required: "]
    names += [path.name for path in folder.rglob("*")] + [key for key in known_keys(SupervisedConfig) if "." in key]
    return ("refused" if any(name in message for name in names) else "unclear"), message
