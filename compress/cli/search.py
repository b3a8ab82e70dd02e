"""Choose the blocks that a model can do without, by correlation and word error rate, and write the Structure.

CoMFLP (arXiv 2309.11768): one pass over the speech tells how alike the boundaries of blocks are; the proposals that
remove what changes least are measured on a dev set, --top_k of them whatever the depth. Greedy removal, every other
block and the last blocks are there to compare with. The folder --out receives search.json, search.md, search.html,
structure.json (the best by word error rate) and structures/METHOD.json. Nothing is trained.

Examples:
  compress search runs/teacher/best --data my-speech --remove 6
  compress search runs/teacher/best --data my-speech --remove 6 --methods [all] --measure svcca --out search-6
  compress apply runs/teacher/best search/structure.json --out smaller
  accelerate launch recipes/prune.py --config ... --structure search/structure.json --budget null
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Searches, prints the tables and writes the files.

    Args:
        arguments: The words after `compress search`.

    Raises:
        ValueError: If so many blocks cannot go, or the model or the data are unusable.
        OSError: If the model or the data cannot be found.
    """
    from compress.config import parse
    from compress.reports.console import show
    from compress.search.blocks import SearchConfig, search_blocks
    from compress.search.report import SEARCH_FILES, page_of

    config = parse(SearchConfig, arguments, prog="compress search", description=__doc__, positional=["model"])
    show(page_of(search_blocks(config)), written=f"{config.out}: {', '.join(SEARCH_FILES)}")
