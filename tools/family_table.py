"""Writes the table of supported families into docs/faq.md, from the registry.

python -m tools.family_table
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from compress.conformers import FAMILIES, Family, front_channels, skeleton
from compress.deciding.gates import Gates
from tools.commands import main

PAGE = Path(__file__).resolve().parent.parent / "docs" / "faq.md"
VOCABULARY_SIZE = 32
BEGIN, END = "<!-- families: written by tools/family_table.py -->", "<!-- end of families -->"
HEAD = (
    "model (`model_type`)",
    "takes",
    "writes by",
    "gated: heads, units, channels, modules",
    "channels in front of the blocks",
    "blocks can be dropped",
    "evaluated in batches",
    "`gated/` computes what `removed/` computes",
    "stock checkpoints hold",
)


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Where the table goes.

    Attributes:
        page: A page with the marks between which the table stands.
    """

    page: str = str(PAGE)


def table() -> str:
    """The table, in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(row, FAMILIES)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def row(family: Family) -> tuple[str, ...]:
    """What is said of one family."""
    config_class = family.original_class.config_class
    assert config_class is not None
    config = config_class()
    if config.get_text_config().vocab_size is None:
        config.vocab_size = VOCABULARY_SIZE  # a CTC head wants one
    bones = skeleton(config)
    gates = Gates(bones)
    kinds = {group.kind for group in gates.groups}
    return (
        f"`{family.model_class}` (`{family.model_type}`)",
        "features" if family.input_features else "raw audio",
        "CTC" if family.has_ctc else "`generate`",
        "yes" if kinds == {"head", "ffn_unit", "conv_channel", "module"} else ", ".join(sorted(kinds)),
        _front(bones),
        "all but those that change the frame rate" if family.fixed_blocks else "yes",
        "no: its output depends on padding" if family.padding_sensitive else "yes",
        "yes" if gates.folds_exactly else "no: a norm runs over channels",
        _stock(family),
    )


def _front(bones: PreTrainedModel) -> str:
    """The groups of channels that can go in front of the blocks."""
    names = [f"`{name}`" for name in front_channels(bones)]
    return f"{names[0]} to {names[-1]}" if len(names) > 2 else ", ".join(names) or "none"


def _stock(family: Family) -> str:
    """What the original's class can hold of a compressed model."""
    if not family.stock:
        return "nothing: its class is this package's"
    blocks = "fewer blocks, if both halves lose equally many" if family.stock.halves else "fewer blocks"
    kinds = [name for name, path in (("heads", family.stock.heads), ("FFN", family.stock.ffn_units)) if path]
    return f"{blocks}; uniform {' and '.join(kinds)}" if kinds else blocks


def written(text: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def write_table(config: TableConfig) -> None:
    """Writes the table into its page."""
    page = Path(config.page)
    page.write_text(written(page.read_text()))


if __name__ == "__main__":
    main(write_table)
