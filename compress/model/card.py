"""The model card that travels with every compressed checkpoint."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
import torch
import transformers
from huggingface_hub import EvalResult, ModelCardData
from transformers import PreTrainedModel

from compress.conformers import Family, family_of, kept_channels, kept_units
from compress.cost import size_of
from compress.files.paths import is_local, last_part
from compress.files.shipped import __version__
from compress.model.lineage import earlier_compressions
from compress.running.aspects import ASPECTS
from compress.structure import MODULES
from compress.surgery.stock import route_of

CARD_FILE = "README.md"
TASK = "automatic-speech-recognition"
TAGS = (TASK, "conformer", "structured-pruning", "conformer-compress")
HERE = "path/or/repository"


def model_card(
    model: PreTrainedModel,
    facts: dict[str, Any],
    report: dict[str, Any] | None = None,
    export: dict[str, Any] | None = None,
    **hub: Any,
) -> str:
    """The card as Markdown with the Hub's metadata on top.

    Args:
        model: the model to describe; one without memory (on the meta device) will do.
        facts: content of `compression.json`.
        report: content of the `report.json` of `compress evaluate`, if there is one: its error rates go into the
            metadata (`model-index`), and the comparison with its baseline into the text.
        export: content of the `export.json` of an export beside it, if there is one.
        **hub: further metadata, e.g. `license`, `datasets`, `language`, and `repository`, the name to load it by.
    """
    teacher = str(facts.get("teacher", ""))
    local = is_local(teacher)
    repository = hub.pop("repository", None)
    card: str = _template().render(
        metadata=_metadata(family_of(model), model, None if local else teacher or None, report, repository, hub),
        facts=facts,
        report=report,
        export=export,
        repository=repository or HERE,
        teacher=last_part(teacher) if local else teacher,
        earlier=earlier_compressions(facts),
        family=family_of(model),
        route=route_of(model.config),
        model_class=type(model).__name__,
        size=size_of(model),
        aspects=filter(None, (aspect.paragraph(aspect.describe(model)) for aspect in ASPECTS)),
        rows=[_row(block) for block in kept_units(model)],
        front=[
            f"`{name}` {kept} of {channels}"
            for name, (kept, channels) in kept_channels(model).items()
            if kept < channels
        ],
        modules=MODULES,
        read=lambda split: "the whole source" if split is None else f"the split `{split}`",
        versions={
            "compress": __version__,
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
        },
    )
    return card


@cache
def _template() -> jinja2.Template:
    return jinja2.Environment(trim_blocks=True).from_string(
        files("compress.model").joinpath("card.md.jinja").read_text()
    )


def _metadata(
    family: Family,
    model: PreTrainedModel,
    base_model: str | None,
    report: dict[str, Any] | None,
    repository: str | None,
    hub: dict[str, Any],
) -> str:
    """The YAML block that the Hub reads."""
    results = [_result(report)] if report else None
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        tags=[*TAGS, *(["ctc"] if family.has_ctc else [])],
        base_model=base_model,
        model_name=(repository or type(model).__name__).split("/")[-1] if results else None,
        eval_results=results,
        **hub,
    )
    return str(data.to_yaml())


def _result(report: dict[str, Any]) -> EvalResult:
    source = str(report["data"]["source"])
    name = last_part(source) if is_local(source) else source
    return EvalResult(
        task_type=TASK,
        task_name="Automatic Speech Recognition",
        dataset_type=name,
        dataset_name=name,
        dataset_config=report["data"].get("subset"),
        dataset_split=report["data"]["split"],
        metric_type="wer",
        metric_name="WER",
        metric_value=round(100 * report["model"]["wer"], 2),
    )


def _row(block: dict[str, tuple[int, int]] | None) -> list[str]:
    if block is None:
        return ["dropped"] * len(MODULES)
    return [f"{kept} of {units}" if kept else "removed" for kept, units in (block[name] for name in MODULES)]
