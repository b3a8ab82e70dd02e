"""Push a checkpoint to the Hub in one commit: weights, processor, Structure, report and a model card.

The token is that of `hf auth login` or HF_TOKEN; it is never shown.

Examples:
  compress push runs/prune/final someone/parakeet-small --report report --license cc-by-4.0 --dry-run
  compress push runs/prune/final someone/parakeet-small --report report --license cc-by-4.0
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Pushes a checkpoint, or with --dry-run shows what would go.

    Args:
        arguments: The words after `compress push`.

    Raises:
        ValueError: If the checkpoint is not complete, or the Hub refuses it.
    """
    from rich.console import Console
    from rich.table import Table

    from compress.checkpoint.push import PushConfig, files_of, push, staged
    from compress.config import parse
    from compress.reports import formats

    names = ("model", "repo_id")
    config = parse(PushConfig, arguments, prog="compress push", description=__doc__, positional=names)
    console = Console()
    with staged(config) as stage:
        files = files_of(stage)
        table = Table("file", "size")
        for name, size in files.items():
            table.add_row(name, formats.size(size))
        table.add_row("in all", formats.size(sum(files.values())))
        console.print(table)
        if config.dry_run:
            console.print(f"Nothing was sent. Without --dry-run this goes to {config.repo_id}.", highlight=False)
        else:
            console.print(push(config, stage), highlight=False)
