"""Work shared by a few processes, with results in order and a progress bar."""

from __future__ import annotations

import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import Progress

from compress.machine import usable_cores

JOBS_AHEAD_PER_CORE = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def process_pool(
    *, initializer: Callable[..., None] | None = None, initargs: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Opens a pool over all usable cores, forked where possible; work that has not begun is dropped at the end.

    Args:
        initializer: called in each process.
        initargs: its arguments.
    """
    method = "fork" if sys.platform == "linux" else "spawn"  # a fork needs no second import of torch
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(usable_cores(), context, initializer, initargs)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in the order of `items`, which may be endless; only a few are worked on ahead."""
    window = JOBS_AHEAD_PER_CORE * usable_cores()
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= window:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def progress_bar(label: str, total: float) -> Iterator[Callable[[float], None]]:
    """Shows a bar on a terminal, nothing elsewhere; yields the function that advances it."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(label, total=total)
        yield lambda amount: progress.advance(task, amount)
