"""The comparison, row by row, as text: the numbers of a page, its headline, and its conditions in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from compress.cost import PER_MILLISECOND
from compress.evaluation.report import ROLES, Report
from compress.machine import TORCH
from compress.model.lineage import earlier_compressions
from compress.reports import formats

LATENCY = "latency"
_SIZES = ("requested", "expected", "achieved")


@dataclass(frozen=True)
class ComparisonRow:
    """One line of the comparison; `baseline` and `change` are empty without a baseline."""

    label: str
    model: str
    baseline: str = ""
    change: str = ""


def comparison_rows(report: Report) -> list[ComparisonRow]:
    """All measured quantities, formatted for people: rates in percent, sizes with units."""
    difference = report.get("difference")
    change = f"{formats.points(difference['wer'])} points" if difference else ""
    return [
        _row(report, "WER", lambda entry: formats.percent(entry["wer"], 2), change),
        _row(report, "  95 % interval", lambda entry: formats.interval(entry["wer_ci95"], 2), _interval_change(report)),
        _row(report, "CER", lambda entry: formats.percent(entry["cer"], 2), _cer_change(report)),
        *_metric_rows(report),
        _row(report, "Words", lambda entry: f"{entry['words']:,}"),
        _row(report, "  substituted", lambda entry: f"{entry['substitutions']:,}"),
        _row(report, "  deleted", lambda entry: f"{entry['deletions']:,}"),
        _row(report, "  inserted", lambda entry: f"{entry['insertions']:,}"),
        *_size_rows(report),
        *_speed_rows(report),
    ]


def _parameters(entry: dict[str, Any], part: str) -> str:
    return formats.count(entry["parameters"][part])


def _size_rows(report: Report) -> list[ComparisonRow]:
    shared = report.get("ratio")
    whole, encoder = (partial(_parameters, part=part) for part in ("total", "encoder"))
    return [
        _row(report, "Parameters", whole, _share(shared, "parameters")),
        _row(report, "  encoder", encoder, _share(shared, "encoder_parameters")),
        *_runtime_rows(report),
        _row(report, "On disk", lambda entry: formats.size(entry["bytes"]), _share(shared, "bytes")),
    ]


def _speed_rows(report: Report) -> list[ComparisonRow]:
    shared = report.get("ratio")
    faster = f"{formats.times(shared['speed'])} as fast" if shared else ""
    return [
        _row(report, "MACs per second", lambda entry: formats.count(entry["macs_per_second"]), _share(shared, "macs")),
        _row(report, "Real-time factor", lambda entry: formats.significant(entry["rtf"]), faster),
        _row(report, "Peak memory", lambda entry: formats.size(entry["peak_memory_bytes"]), _share(shared, "memory")),
    ]


def runs_elsewhere(report: Report) -> bool:
    """Whether anything in a report was run by something else than PyTorch."""
    return any(report.get(role, {}).get("runtime", {}).get("name", TORCH) != TORCH for role in ROLES)


def runtime_words(entry: dict[str, Any]) -> str:
    """What ran a model, and in which precision."""
    runtime = entry["runtime"]
    return f"{runtime['name']}, {runtime['precision']}"


def _runtime_rows(report: Report) -> list[ComparisonRow]:
    return [_row(report, "Runtime", runtime_words)] if runs_elsewhere(report) else []


def _metric_rows(report: Report) -> list[ComparisonRow]:
    """The numbers of further metrics, in their own units."""
    return [
        _row(report, name if key == name else f"{name} {key}", partial(_metric, name=name, key=key))
        for name, numbers in report["model"].get("metrics", {}).items()
        for key in numbers
    ]


def _metric(entry: dict[str, Any], name: str, key: str) -> str:
    value = entry["metrics"][name].get(key)
    return "" if value is None else formats.significant(value)


class InUse(NamedTuple):
    """How fast a model is that runs in part, in the way in which its error rate was measured.

    Attributes:
        rtf: its real-time factor.
        baseline: that of the baseline on the same speech; None without one.
        how: words for it.
        otherwise: words for how speed and MACs were measured elsewhere in the report.
    """

    rtf: float
    baseline: float | None
    how: str
    otherwise: str


def headline(report: Report, in_use: InUse | None = None) -> str:
    """The comparison in one sentence, with the speed of a model that runs in part as it is used."""
    model, how = report["model"], in_use.how if in_use else ""
    if "baseline" not in report:
        rtf = in_use.rtf if in_use else model["rtf"]
        return (
            f"{formats.percent(model['wer'])} of {model['words']:,} words are wrong "
            f"(95 % interval {formats.interval(model['wer_ci95'])}). {formats.count(model['parameters']['total'])} "
            f"parameters, real-time factor {formats.significant(rtf)}{how}."
        )
    shared, difference = report["ratio"], report["difference"]
    speed = in_use.baseline / in_use.rtf if in_use and in_use.baseline else shared["speed"]
    macs = "" if in_use else f"{formats.percent(shared['macs'])} of the MACs, "
    return (
        f"{formats.percent(shared['parameters'])} of the parameters, {macs}"
        f"{formats.times(speed)} as fast{how}. WER goes from "
        f"{formats.percent(report['baseline']['wer'])} to {formats.percent(model['wer'])}: "
        f"{formats.points(difference['wer'])} points, 95 % interval {formats.point_interval(difference['wer_ci95'])}."
    )


def verdict(report: Report) -> str:
    """What the interval of the difference allows to say."""
    low, high = report["difference"]["wer_ci95"]
    if report["difference"]["utterances"] == 1:
        return "One utterance does not tell the two models apart."
    if low > 0:
        return "The whole interval lies above zero: the model makes more errors than the baseline."
    if high < 0:
        return "The whole interval lies below zero: the model makes fewer errors than the baseline."
    return "The interval includes zero: these utterances do not tell the two models apart."


def condition_line(report: Report) -> str:
    """Under which conditions the real-time factor was measured."""
    given = report["conditions"]
    return (
        f"{given['device']} ({given['device_name']}), {formats.counted(given['threads'], 'thread')}, {given['dtype']}, "
        f"batch {given['batch']} of {given['seconds']:g} s, {given['warmup']} warm-up and {given['repetitions']} timed "
        "repetitions"
    )


def compression_line(model: dict[str, Any]) -> str | None:
    """Requested, expected and achieved size, the teacher, and how that was compressed, as `compression.json` says."""
    carried = model.get("compression") or {}
    full, metric = carried.get("full"), carried.get("metric", "")
    sizes = [f"{name} {_amount(carried[name], full, metric)}" for name in _SIZES if carried.get(name) is not None]
    if sizes and full:
        sizes.append(f"before {_cost(full, metric)}" + (f" {metric}" if metric and metric != LATENCY else ""))
    teacher = [f"teacher {carried['teacher']}"] if carried.get("teacher") else []
    earlier = [line.removesuffix(".") for line in earlier_compressions(carried)]
    return "; ".join([*([", ".join(sizes)] if sizes else []), *teacher, *earlier]) or None


def _amount(value: Any, full: float | None, metric: str) -> str:
    """A size in the user's words ("params 50% of total") as it is; a cost with its share of the full one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    share = f" ({formats.percent(value / full, 2)})" if full else ""
    return _cost(value, metric) + share


def _cost(value: float, metric: str) -> str:
    """Parameters and MACs are counts, times are nanoseconds."""
    return f"{value / PER_MILLISECOND:,.2f} ms" if metric == LATENCY else formats.count(value)


def _row(report: Report, label: str, show: Callable[[dict[str, Any]], str], change: str = "") -> ComparisonRow:
    baseline = report.get("baseline")
    return ComparisonRow(label, show(report["model"]), show(baseline) if baseline else "", change)


def _share(shared: dict[str, float] | None, key: str) -> str:
    return formats.percent(shared[key]) if shared else ""


def _interval_change(report: Report) -> str:
    return formats.point_interval(report["difference"]["wer_ci95"]) if "difference" in report else ""


def _cer_change(report: Report) -> str:
    if "baseline" not in report:
        return ""
    return f"{formats.points(report['model']['cer'] - report['baseline']['cer'])} points"
