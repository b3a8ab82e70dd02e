"""Programs in processes of their own that begin at once: forks of a process that has imported what they all need.

Starting Python and importing torch and transformers takes a processor five seconds, and is no part of what is tested.
Where it is (the launchers, an installed package), tests start programs by `subprocess`. Strangers are forks of another
process, which has never imported `compress`.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path

import pytest
from huggingface_hub import constants
from torch.distributed import TCPStore
from transformers import dynamic_module_utils

REPOSITORY = Path(__file__).resolve().parents[2]
LONGEST_SECONDS = 240
IMPORTED = ("tests.helpers.warm", "compress.training.run", "compress.evaluation.evaluate", "torch.utils.tensorboard")
IMPORTED_BY_STRANGERS = (
    "tests.helpers.forked",
    "torch._dynamo.backends.common",
    "transformers.pipelines.automatic_speech_recognition",
    "transformers.models.parakeet.modeling_parakeet",
    "transformers.models.wav2vec2_bert.modeling_wav2vec2_bert",
    "transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer",
)
STREAMS = ("stdout", "stderr")
ON_CPU = {"CUDA_VISIBLE_DEVICES": ""}
"""Where several processes train together: where there is one GPU, all would take it."""
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(IMPORTED))
_STRANGERS = forkserver.ForkServer()
_STRANGERS.set_forkserver_preload(list(IMPORTED_BY_STRANGERS))


class Program:
    """`python WORDS...` at work: a file of this repository, `-m` and a module, or `-c` and code, with arguments.

    Args:
        words: the command, without `python`.
        stranger: let it begin where `compress` has never been imported.
        **environment: variables on top of this process's.
    """

    def __init__(self, words: Sequence[str], stranger: bool = False, **environment: str) -> None:
        self.words = list(words)
        self._texts = tempfile.TemporaryDirectory()
        for name in STREAMS:
            Path(self._texts.name, name).touch()
        self._process = _FORKS.Process(target=_become, args=(self.words, self._texts.name, environment))
        with pytest.MonkeyPatch.context() as patch:  # the first start also starts the process that is forked
            patch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
            if stranger:
                patch.setattr(forkserver, "connect_to_new_process", _STRANGERS.connect_to_new_process)
            self._process.start()

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def kill(self, by: signal.Signals = signal.SIGKILL) -> None:
        """Sends it a signal, and waits for its end."""
        assert self._process.pid
        os.kill(self._process.pid, by)
        self._process.join()

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Waits for its end, and gives what it returned and wrote."""
        self._process.join(LONGEST_SECONDS)
        if self.is_running:
            self.kill()
        code, (out, err) = self._process.exitcode, (Path(self._texts.name, name).read_text() for name in STREAMS)
        assert code is not None
        return subprocess.CompletedProcess(self.words, code, out, err)


def run(words: Sequence[str], stranger: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python WORDS...` to its end; see `Program`."""
    return Program(words, stranger, **environment).ended()


class TwoPrograms:
    """A program on two processes that train together, in the environment that torchrun gives them.

    Args:
        words: the command, without `python`.
        machines: on one machine, or on two of one process each.
        **environment: variables on top.
    """

    def __init__(self, words: Sequence[str], machines: int = 1, **environment: str) -> None:
        self.words = list(words)
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port)}
        group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": str(2 // machines), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        local = ("0", "1") if machines == 1 else ("0", "0")
        self.ranks = [
            Program(words, **ON_CPU | group | meeting | environment, RANK=str(rank), LOCAL_RANK=number)
            for rank, number in enumerate(local)
        ]

    def kill(self) -> None:
        """Ends both at once."""
        for rank in self.ranks:
            rank.kill()

    def ended(self) -> subprocess.CompletedProcess[str]:
        """Waits for the end of both."""
        ends = [rank.ended() for rank in self.ranks]
        out, err = "".join(end.stdout for end in ends), "".join(end.stderr for end in ends)
        return subprocess.CompletedProcess(self.words, max((end.returncode for end in ends), key=abs), out, err)


def run_two(words: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program on two processes of one machine to its end; see `TwoPrograms`."""
    return TwoPrograms(words, **environment).ended()


def _become(words: list[str], texts: str, environment: dict[str, str]) -> None:
    """Does in this process what `python WORDS...` does, and ends it."""
    gc.freeze()  # what was imported need not be looked through whenever a program looks for garbage
    for name in STREAMS:
        text = os.open(Path(texts, name), os.O_WRONLY | os.O_APPEND)
        os.dup2(text, getattr(sys, name).fileno())
    faulthandler.enable()  # where it was, if it dies in native code
    os.environ |= environment
    importlib.reload(constants)  # of the Hub, which are read from the environment
    if "HF_MODULES_CACHE" in environment:
        dynamic_module_utils.HF_MODULES_CACHE = environment["HF_MODULES_CACHE"]
    os.chdir(REPOSITORY)
    multiprocessing.set_start_method(None, force=True)  # Python's own: its children are not to be forked from elsewhere
    code = _exit_code(words)
    if "RANK" in environment:  # a thread of a group that is still at work when Python ends brings the process down
        gc.freeze()  # nor what has been made since
        ctypes.pythonapi.Py_Exit(code)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # else what was imported is taken apart, which takes half a second


def _exit_code(words: list[str]) -> int:
    option = words.pop(0) if words[0] in ("-c", "-m") else None
    sys.argv = words
    try:
        if option == "-c":
            exec(compile(words[0], "-c", "exec"), {"__name__": "__main__"})
        elif option == "-m":
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(words[0]).resolve().parent))
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
