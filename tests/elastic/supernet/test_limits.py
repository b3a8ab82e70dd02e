"""Sizes: nested, within their budgets, and refused early if they cannot be."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import compress
from compress.cost import size_of
from compress.deciding.budget import BudgetError
from compress.elastic.supernet import PartsConfig, SizesConfig, Subnets, make_subnets, parts_of
from compress.structure import MODULES, Structure
from tests.helpers.tiny import BLOCKS, CTC_MODELS, parakeet, wav2vec2_conformer


def made(config: SizesConfig, granularity: Any = "component", model: Any = None) -> Subnets:
    model = model or parakeet()
    return make_subnets(config, parts_of(model, PartsConfig(granularity), config.table(model.config)))


@cache
def cached(kind: str) -> Subnets:
    configs = {
        "params": SizesConfig(params=("100%", "75%", "50%")),
        "macs": SizesConfig(macs=("75%", "60%", "50%"), denominator="encoder"),
        "parts": SizesConfig(parts=(30, 11, 1)),
    }
    return made(configs[kind])


def units(sizes: Subnets, structure: Structure) -> set[tuple[int, int, int]]:
    found = set()
    for b, block in enumerate(structure.blocks):
        assert block is not None
        for m, name in enumerate(MODULES):
            kept = getattr(block, name)
            whole = range(sizes.parts.units[b][m])
            found |= {(b, m, unit) for unit in (whole if kept == "all" else kept or ())}
    return found


@pytest.mark.parametrize("kind", ["params", "macs", "parts"])
@settings(max_examples=40, deadline=None)
@given(ranking=st.permutations(range(13 * BLOCKS)))
def test_any_ranking_gives_nested_sizes_within_their_limits(kind: str, ranking: list[int]) -> None:
    sizes = cached(kind)
    structures, counts = sizes.structures(ranking), sizes.counts(ranking)
    assert list(structures) == list(counts)
    assert list(structures)[-1] == sizes.full
    kept = [units(sizes, structure) for structure in structures.values()]
    assert all(small < large for small, large in pairwise(kept))
    for name, limit in sizes.limits.items():
        count = counts[name]
        assert sizes.parts.cost(ranking[:count]) <= limit < sizes.parts.cost(ranking[: count + 1])


@pytest.mark.parametrize("name", ["parakeet", "wav2vec2_conformer-none", "granite_speech5"])
def test_achieved_sizes_are_those_of_the_removed_models(name: str) -> None:
    model = CTC_MODELS[name]()
    sizes = made(SizesConfig(params=("80%", "65%")), model=model)
    ranking = list(range(len(sizes.parts)))[::-1]
    for size, structure in list(sizes.structures(ranking).items())[:-1]:
        cost = size_of(compress.remove(model, structure)).total
        assert cost == sizes.parts.cost(ranking[: sizes.counts(ranking)[size]])
        assert cost <= sizes.limits[size]


def test_the_full_size_has_the_name_that_it_was_given() -> None:
    assert made(SizesConfig(params=("100%", "50%"))).full == "100%"
    assert made(SizesConfig(params=("50%",))).full == "100%"
    assert made(SizesConfig(parts=(39, 11))).full == "39"
    assert made(SizesConfig(parts=(11,))).full == "39"
    assert list(made(SizesConfig(parts=(20, 11))).limits) == ["20", "11"]


def test_shares_are_of_the_model_with_the_parts_that_it_does_not_use() -> None:
    model = wav2vec2_conformer("relative")
    sizes = made(SizesConfig(params=("100%", "80%")), model=model)
    assert sizes.limits["80%"] == int(0.8 * model.num_parameters())
    assert sizes.full == "100%"


@pytest.mark.parametrize(
    ("config", "granularity", "message"),
    [
        ({"params": ("50%", "66%")}, "component", r"sizes.params must decrease, largest first; got 50%, 66%"),
        ({"params": ("50%", "50%")}, "component", r"must decrease"),
        ({"parts": (13, 11, 11)}, "component", r"sizes.parts must decrease"),
        ({"params": ("100%", "1%")}, "component", r"The size 1% .* cannot be reached for sure: the smallest .* [\d,]+"),
        ({"parts": (39, 0)}, "component", r"The size 0 in sizes.parts is 0, which cannot be .* is 1 "),
        ({"macs": ("50%", "49%")}, "module", r"The sizes 50% and 49% in sizes.macs differ by [\d,]+, less than the"),
        ({"params": ("100%",)}, "component", r"one size or more below that of the whole model"),
        ({"parts": (50, 20)}, "component", r"sizes.parts asks for 50, but the whole model has 39: name less"),
        ({"params": ("900M", "50%")}, "component", r"sizes.params asks for 900M, but the whole model has [\d,]+"),
        (
            {"parts": tuple(range(12, -1, -1))},
            "module",
            r"13 sizes in .* need at least as many parts, .* 12: name fewer, or set",
        ),
    ],
)
def test_impossible_sizes_are_refused(config: dict[str, Any], granularity: Any, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        made(SizesConfig(**config), granularity)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "Give the sizes in one of sizes.params, sizes.macs, sizes.latency and sizes.parts"),
        ({"params": ()}, "Give the sizes in one of"),
        ({"params": ("50%",), "macs": ("50%",)}, "got .*params.*macs"),
        ({"params": ("half",)}, "Cannot read the budget 'half'"),
        ({"params": ("150%", "80%")}, "The budget '150%' is a share; give more than 0% and at most 100%"),
        ({"macs": ("50",)}, "would be 50 in all; did you mean '50%'"),
        ({"macs": ("50%",), "seconds": 0.0}, "sizes.seconds"),
    ],
)
def test_malformed_sizes_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        SizesConfig(**config)
