"""Writes the table of supported families into README.md, from the registry.

python tools/family_table.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from compress.conformers import FAMILIES, Family
from compress.gates import Gates
from compress.training.models import BUILDERS, ModelConfig, build_model

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- families: written by tools/family_table.py -->", "<!-- end of families -->"
VOCABULARY_SIZE = 32
HEAD = (
    "model (`model_type`)",
    "takes",
    "gated: heads, units, channels, modules",
    "blocks can be dropped",
    "evaluated in batches",
    "`gated/` computes what `removed/` computes",
    "stock checkpoints hold",
)


def table() -> str:
    """The table, in Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *map(row, FAMILIES)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def row(family: Family) -> tuple[str, ...]:
    """What is said of one family."""
    with torch.device("meta"):
        model = build_model(ModelConfig(family=family.name), vocabulary_size=VOCABULARY_SIZE, blank=0)
    gates = Gates(model)
    kinds = {group.kind for group in gates.groups}
    return (
        f"`{family.model_class}` (`{family.model_type}`)",
        "features" if family.input_features else "raw audio",
        "yes" if kinds == {"head", "ffn_unit", "conv_channel", "module"} else ", ".join(sorted(kinds)),
        "all but those that change the frame rate" if family.fixed_blocks else "yes",
        "no: its output depends on padding" if family.padding_sensitive else "yes",
        "yes" if gates.folds_exactly else "no: a norm runs over channels",
        _stock(family),
    )


def _stock(family: Family) -> str:
    """What the original's class can hold of a compressed model."""
    if not family.stock:
        return "nothing: its class is this package's"
    blocks = "fewer blocks, if both halves lose equally many" if family.stock.halves else "fewer blocks"
    return f"{blocks}; {'uniform heads and FFN' if family.stock.heads else 'uniform FFN'}"


def written(text: str) -> str:
    """The README with the table as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    assert set(BUILDERS) == {family.name for family in FAMILIES}
    README.write_text(written(README.read_text()))
