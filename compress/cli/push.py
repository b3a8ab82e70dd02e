"""Push a checkpoint to the Hub in one commit: weights, processor, Structure, report and a model card.

The token is that of `hf auth login` or HF_TOKEN; it is never shown.

Examples:
  compress push runs/prune/final someone/parakeet-small --report report --license cc-by-4.0 --dry-run
  compress push runs/prune/final someone/parakeet-small --report report --license cc-by-4.0
  compress push runs/prune/final someone/parakeet-small --report report --export exported --license cc-by-4.0
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

    from compress.checkpoint.push import PushConfig, files_of, push, staged
    from compress.config import parse
    from compress.reports import formats
    from compress.reports.console import show
    from compress.reports.page import Page, Table

    names = ("model", "repo_id")
    config = parse(PushConfig, arguments, prog="compress push", description=__doc__, positional=names)
    console = Console()
    with staged(config) as stage:
        files = files_of(stage)
        sizes = [*files.items(), ("in all", sum(files.values()))]
        table = Table(("file", "size"), [(name, formats.size(size)) for name, size in sizes])
        destination = f"Without --dry-run this goes to {config.repo_id}."
        headline = f"Nothing was sent. {destination}" if config.dry_run else f"This goes to {config.repo_id}."
        show(Page(config.model, headline, [], [], maker="compress push", numbers=table), console)
        if not config.dry_run:
            console.print(push(config, stage), highlight=False)
