"""The model card that travels with a checkpoint. The same facts give the same card."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import torch
import transformers
from transformers import PreTrainedModel

import compress
from compress.conformers import family_of, kept_units
from compress.cost import size_of
from compress.structure import MODULES

CARD_FILE = "README.md"


def model_card(model: PreTrainedModel, facts: dict[str, Any]) -> str:
    """The card as Markdown with the Hub's metadata on top.

    Args:
        model: the model to describe.
        facts: content of `compression.json`.
    """
    template = jinja2.Template(files("compress").joinpath("card.md.jinja").read_text(), trim_blocks=True)
    teacher = str(facts.get("teacher", ""))
    card: str = template.render(
        facts=facts,
        base_model=teacher if teacher and not Path(teacher).exists() else None,
        teacher=Path(teacher).name if Path(teacher).exists() else teacher,
        family=family_of(model),
        model_class=type(model).__name__,
        size=size_of(model),
        rows=[_row(block) for block in kept_units(model)],
        modules=MODULES,
        versions={
            "compress": compress.__version__,
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
        },
    )
    return card


def _row(block: dict[str, tuple[int, int]] | None) -> list[str]:
    if block is None:
        return ["dropped"] * len(MODULES)
    return [f"{kept} of {units}" if kept else "removed" for kept, units in (block[name] for name in MODULES)]
