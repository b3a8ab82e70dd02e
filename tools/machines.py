"""Several machines on this one: a launcher for each, which meet on the loopback and start one process each.

python -m tools.machines 2 recipes/prune.py --config ...
"""

from __future__ import annotations

import socket
import subprocess
import sys
from argparse import REMAINDER, ArgumentParser
from collections.abc import Sequence


def start_machines(count: int, words: Sequence[str]) -> int:
    """Runs a recipe on so many launchers to its end; gives the exit code of the first that fails.

    Args:
        count: of launchers.
        words: the recipe and its options.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(count), "--nproc_per_node", "1"]
    meeting = ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    started = [subprocess.Popen([*launcher, *meeting, "--node_rank", str(rank), *words]) for rank in range(count)]
    codes = [process.wait() for process in started]
    return next((code for code in codes if code), 0)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    parser = ArgumentParser("python -m tools.machines", description=__doc__)
    parser.add_argument("count", type=int, help="how many machines")
    parser.add_argument("words", nargs=REMAINDER, help="the recipe and its options")
    given = parser.parse_args()
    sys.exit(start_machines(given.count, given.words))
