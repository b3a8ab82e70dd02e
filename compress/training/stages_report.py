"""What a run in stages leaves beside its models: one page with the curve of their error rates, beside the teacher's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint import load_model
from compress.conformers import family_of
from compress.evaluation.generate import GenerateConfig
from compress.files.writing import write_json
from compress.reports.making import made
from compress.reports.saving import save_page
from compress.shrinking.curve_report import SHRINK_FILES, SHRINK_REPORT, WHOLE, Making, curve_page, with_chosen
from compress.shrinking.measured import DevMeasure, MeasureConfig
from compress.training.loop.same_run import STAGES
from compress.training.results import FINAL
from compress.training.run import DevSet

STAGES_ABOUT = (
    "Error rates are fractions, pooled over the dev set, with 95 % bootstrap intervals. Each size was trained from the "
    "one before it. `holds`: the interval of the word error rate reaches down to that of the teacher; `chosen` names "
    "the smallest such size. Real-time factors were measured in turn with the teacher. `seconds` is what training took."
)
MAKING = Making(
    maker="recipes/prune.py",
    how="in stages",
    effort="Each size was trained from the one before it.",
    note="The dev set also chose the best model of every stage.",
    method="compressed and distilled in stages, each from the final model of the one before it",
    seconds="of training, on top of the size before.",
)


def report_stages(
    output: Path, name: str, read: Callable[[], PreTrainedModel], dev: DevSet | None, numbers: Mapping[str, Any]
) -> dict[str, Any]:
    """Measures the final models of a run in stages, and writes report.html, report.md and report.json.

    Args:
        output: of the run, with the final models.
        name: folder or Hub name of the teacher.
        read: gives the teacher itself, as its checkpoint has it; called if there is a report.
        dev: the dev set; without one, or with a stream, there is no report.
        numbers: of the run, with those of its stages, if it has any (see `numbers_of_stages`).

    Returns:
        What the final numbers say of it beside: the names of the files.
    """
    if STAGES not in numbers or dev is None or dev.dataset.streaming:
        return {}
    teacher = read()
    config = MeasureConfig(batch=dev.batch, generate=dev.generate or GenerateConfig())
    measure = DevMeasure(teacher, dev.processor, dev.dataset, dev.dataset.name, config)
    entries = [{"name": WHOLE, "share": 1.0} | measure.of(teacher)]
    by_folder = {str(Path(STAGES, stage)): of_stage for stage, of_stage in numbers[STAGES].items()} | {"": numbers}
    for folder, of_stage in by_folder.items():
        model = load_model(str(output / folder / FINAL), dtype=teacher.dtype, device=teacher.device)
        entries.append(_entry(of_stage, folder) | measure.of(model))
    report = {
        "about": STAGES_ABOUT,
        **made(),
        "model": name,
        "family": family_of(teacher).name,
        **measure.described(),
        **with_chosen(entries),
    }
    save_page(curve_page(report, MAKING), output, SHRINK_REPORT)
    write_json(output / f"{SHRINK_REPORT}.json", report)
    return {"report": list(SHRINK_FILES)}


def _entry(numbers: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """What is known of a stage without measuring it."""
    phases = [numbers[phase] for phase in ("learn", "recover") if phase in numbers]
    return {
        "name": str(numbers["requested"]).split()[1],
        "checkpoint": str(Path(folder, FINAL)),
        "share": numbers["achieved"] / numbers["full"],
        "requested": numbers["requested"],
        "limit": numbers["limit"],
        "cost": numbers["achieved"],
        "seconds": sum(phase["seconds"] for phase in phases),
    }
