"""A latency profile as a page."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from compress.cost import PER_MILLISECOND
from compress.latency import LatencyProfile
from compress.reports.page import Condition, Page, Section, Table

MICROSECONDS = 1e3  # nanoseconds in one


def profile_page(profile: LatencyProfile, model: str) -> Page:
    """What the modules of a model cost in time, and how well that foretells others.

    Args:
        profile: of the model.
        model: folder or Hub name.
    """
    units = profile.model["units"]
    whole = {"ffn": units["ffn1"], "attention": units["attention"], "conv": units["conv"]}
    rows = [
        (kind, f"{line.fixed / PER_MILLISECOND:,.3f}", f"{line.unit / MICROSECONDS:,.2f}", str(whole[kind]),
         f"{(line.fixed + line.unit * whole[kind]) / PER_MILLISECOND:,.3f}")
        for kind, line in profile.lines.items()
    ]  # fmt: skip
    rows.append(("block, beside its modules", f"{profile.block / PER_MILLISECOND:,.3f}", "", "", ""))
    rows += [(f"{name}, in front of the blocks", "", each, "", "") for name, each in _channels(profile)]
    rest = "all else outside of the blocks" if profile.front.names else "outside of the blocks"
    rows.append((rest, f"{profile.base / PER_MILLISECOND:,.3f}", "", "", ""))
    error = profile.error
    return Page(
        title=model,
        headline=f"Predictions are off by {error['mean']:.1%} on average and {error['worst']:.1%} at worst, for "
        f"{error['structures']:g} models that were not fitted.",
        sections=[
            Section("what modules cost", [Table(("module", "fixed, ms", "each unit, us", "units", "whole, ms"), rows)])
        ],
        conditions=[
            Condition("measured", f"{profile.summary} on {profile.conditions['device_name']}", in_terminal=True),
            Condition("widths", f"in multiples of {profile.round_to}", in_terminal=True),
        ],
        maker="compress profile",
    )


def _channels(profile: LatencyProfile) -> Iterator[tuple[str, str]]:
    """What each channel of a group costs for itself, and together with each of the next group."""
    for name, single, pair in zip_longest(profile.front.names, profile.front.single, profile.front.pair):
        together = f" + {pair / MICROSECONDS:,.2f} for each of the next" if pair else ""
        yield name, f"{single / MICROSECONDS:,.2f}{together}"
