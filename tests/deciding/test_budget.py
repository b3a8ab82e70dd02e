import re
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import compress
from compress.deciding.budget import (
    BudgetConfig,
    BudgetError,
    Lagrangian,
    check_reachable,
    decide,
    expected_cost,
    make_budget,
    reachable,
    read_amount,
)
from compress.deciding.gates import GATE_KINDS, GateConfig, Gates
from compress.structure import MODULES, Block, Structure, count_kept
from compress.training.loop.schedule import LearnConfig
from tests.helpers.tiny import CTC_MODELS, parakeet

CHEAP = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
OF_EACH = settings(CHEAP, max_examples=25)
"""Of each of the models, which differ in what their units cost and in little else."""


@pytest.mark.parametrize(
    ("text", "amount"),
    [("50%", 500), (" 12.5 % ", 125), ("20M", 20_000_000), ("1.5g", 1_500_000_000), ("300", 300), ("2B", 2 * 10**9)],
)
def test_amounts(text, amount):
    assert read_amount(text, full=1000) == amount


@pytest.mark.parametrize("text", ["half", "50 percent", "-3M", "", "5M%"])
def test_unreadable_amounts(text):
    with pytest.raises(BudgetError, match="write a share like 50% or an amount like 20M"):
        read_amount(text, full=1000)


def test_exactly_one_target_is_wanted():
    for wrong in ({}, {"params": "50%", "macs": "50%"}):
        with pytest.raises(BudgetError, match=r"one of budget.params, budget.macs and budget.latency"):
            BudgetConfig(**wrong)
    with pytest.raises(BudgetError, match="round_to is 0; give at least 1"):
        BudgetConfig(params="50%", round_to=0)


@pytest.fixture(scope="module", params=list(CTC_MODELS))
def model(request):
    return CTC_MODELS[request.param]()


def shaken_gates(model, seed, config=None):
    gates = Gates(model, config)
    with torch.no_grad():
        gates.log_alpha.copy_(2 * torch.randn(gates.log_alpha.shape, generator=torch.Generator().manual_seed(seed)))
    return gates


def addable(budget, gates, structure):
    """The cost of every group of units that could still be added to a structure."""
    table = budget.table
    for b, (block, counts) in enumerate(zip(structure.blocks, table.units, strict=True)):
        for m, name in enumerate(MODULES):
            kept = count_kept(getattr(block, name), counts[m])
            step = 1 if name == "attention" else budget.round_to
            if kept < counts[m]:
                more = min(kept + step, counts[m])
                yield table.module(b, m, more) - table.module(b, m, kept)


@OF_EACH
@given(
    seed=st.integers(0, 10_000),
    share=st.integers(15, 90),
    round_to=st.sampled_from([1, 4, 8]),
    metric=st.sampled_from(["params", "macs"]),
    denominator=st.sampled_from(["total", "encoder"]),
)
def test_decisions_fill_the_budget_and_never_exceed_it(model, seed, share, round_to, metric, denominator):
    gates = shaken_gates(model, seed)
    config = BudgetConfig(**{metric: f"{share}%"}, denominator=denominator, round_to=round_to)
    budget = make_budget(config, model.config)
    structure = decide(budget, gates.scores())
    cost = budget.table.of(structure)
    assert cost <= budget.limit
    assert all(cost + more > budget.limit for more in addable(budget, gates, structure))
    for block, counts in zip(structure.blocks, budget.table.units, strict=True):
        for m, name in enumerate(MODULES):
            kept = count_kept(getattr(block, name), counts[m])
            assert name == "attention" or kept % round_to == 0 or kept == counts[m]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.integers(6, 95))
def test_on_a_model_of_real_size_the_rest_is_below_half_a_percent(seed, share):
    from transformers import ParakeetCTCConfig

    from compress.conformers import skeleton

    bones = skeleton(ParakeetCTCConfig(encoder_config={"num_hidden_layers": 6, "hidden_size": 256}))
    gates = Gates(bones).to_empty(device="cpu")
    with torch.no_grad():
        gates.log_alpha.copy_(2 * torch.randn(gates.log_alpha.shape, generator=torch.Generator().manual_seed(seed)))
    budget = make_budget(BudgetConfig(params=f"{share}%"), bones.config)
    rest = budget.limit - budget.table.of(decide(budget, gates.scores()))
    assert 0 <= rest <= 0.005 * budget.table.full


@CHEAP
@given(seed=st.integers(0, 10_000), share=st.integers(5, 95), kinds=st.sets(st.sampled_from(GATE_KINDS), min_size=1))
def test_any_gates_any_budget_either_fits_or_is_refused_with_the_range(seed, share, kinds):
    model = parakeet()
    gates = shaken_gates(model, seed, GateConfig(units=tuple(kinds)))
    budget = make_budget(BudgetConfig(params=f"{share}%"), model.config)
    low, high = reachable(budget.table, gates.scores())
    if low <= budget.limit < high:
        structure = decide(budget, gates.scores())
        assert low <= budget.table.of(structure) <= budget.limit
        assert sum(p.numel() for p in compress.remove(model, structure).parameters()) == budget.table.of(structure)
    else:
        with pytest.raises(BudgetError, match=f"reaches from {low:,} "):
            check_reachable(budget, gates.scores())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.integers(20, 90))
def test_module_gates_alone_come_close_too(seed, share):
    """The gates of the paper: of 24 modules a swap finds a good sum nearly always, or there is a warning."""
    from transformers import ParakeetCTCConfig

    from compress.conformers import skeleton

    bones = skeleton(ParakeetCTCConfig(encoder_config={"num_hidden_layers": 6, "hidden_size": 256}))
    gates = shaken_gates(bones, seed, GateConfig(units=("module",)))
    budget = make_budget(BudgetConfig(params=f"{share}%"), bones.config)
    with pytest.MonkeyPatch.context() as patch:
        warnings = []
        patch.setattr("compress.deciding.budget.logger.warning", lambda *words: warnings.append(words))
        rest = budget.limit - budget.table.of(decide(budget, gates.scores()))
    assert rest >= 0
    assert bool(warnings) == (rest > round(0.005 * budget.table.full))


def test_without_module_gates_no_module_is_removed():
    model = parakeet()
    gates = shaken_gates(model, 0, GateConfig(units=("head", "ffn_unit", "conv_channel")))
    budget = make_budget(BudgetConfig(params="40%"), model.config)
    for block in decide(budget, gates.scores()).blocks:
        assert block is not None
        assert None not in dict(block.items()).values()


def test_wanted_parts_stay():
    """With gates that agree with a Structure of exactly that cost, the decision is that Structure."""
    model = parakeet()
    wanted = Structure(
        "parakeet", (Block(tuple(range(16)), (1, 3), None, "all"), Block(), Block(None, None, "all", None))
    )
    gates = Gates(model)
    with torch.no_grad():
        gates.log_alpha.copy_(torch.where(gates.values(wanted) > 0, 4.0, -4.0))
    budget = make_budget(
        BudgetConfig(params=str(make_budget(BudgetConfig(params="1%"), model.config).table.of(wanted))), model.config
    )
    assert decide(budget, gates.scores()) == wanted


def test_a_budget_out_of_reach_is_refused_with_the_range():
    model = parakeet()
    for params in ("1%", "100%", "1G"):
        budget = make_budget(BudgetConfig(params=params), model.config)
        with pytest.raises(
            BudgetError,
            match=r"cannot be reached: with what may go, this model reaches from 2,140 parameters \(3\.9%\)",
        ):
            check_reachable(budget, Gates(model).scores())
    for front, remedy in ((False, "(budget.front; of learned"), (True, "(of learned")):
        with pytest.raises(BudgetError, match=re.escape(f"let more go {remedy} gates gates.units")):
            check_reachable(replace(budget, limit=1, front=front), Gates(model).scores())


def test_the_lagrangian_leads_the_expected_size_along_its_schedule():
    """Three groups in one optimiser, the multipliers ascending: the expected size ends at the target."""
    model = parakeet()
    gates = Gates(model, GateConfig(drop_rate=0.02, ffn_drop_rate=0.02))
    budget = make_budget(BudgetConfig(params="40%"), model.config)
    lagrangian = Lagrangian(budget.fraction, warmup_steps=100)
    optimizer = torch.optim.AdamW(
        [
            {"params": gates.parameters(), "lr": 0.05},
            {"params": lagrangian.parameters(), "lr": 0.05, "maximize": True},
        ],
        weight_decay=0.0,
    )
    sizes = []
    for step in range(800):
        share = expected_cost(budget.table, gates) / budget.table.full
        # A task that wants every gate open, so that the multipliers have something to hold against.
        task = -0.05 * gates.distribution.probability_open(gates.log_alpha).mean()
        optimizer.zero_grad()
        (task + lagrangian(share, step)).backward()
        optimizer.step()
        gates.clamp_()
        sizes.append(float(share.detach()))
    assert lagrangian.target(0) == 1
    assert lagrangian.target(50) == pytest.approx(1 - 0.5 * (1 - budget.fraction))
    assert lagrangian.target(1000) == budget.fraction
    assert sizes[0] > 0.9
    assert sum(sizes[-50:]) / 50 == pytest.approx(budget.fraction, abs=0.02)
    assert float(lagrangian.quadratic.detach()) > 0


def test_a_quadratic_start_keeps_a_short_run_on_its_schedule():
    model = parakeet()
    budget = make_budget(BudgetConfig(params="50%"), model.config)
    worst = {}
    for start in (0.0, 50.0):
        gates = Gates(model)
        lagrangian = Lagrangian(budget.fraction, warmup_steps=80, quadratic_start=start)
        groups = [
            {"params": gates.parameters(), "lr": 0.1},
            {"params": lagrangian.parameters(), "lr": 0.02, "maximize": True},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98))
        gaps = []
        for step in range(200):
            share = expected_cost(budget.table, gates) / budget.table.full
            optimizer.zero_grad()
            lagrangian(share, step).backward()
            optimizer.step()
            gaps.append(abs(float(share.detach()) - lagrangian.target(step)))
        worst[start] = max(gaps[60:])
    assert worst[50.0] < 0.05 < worst[0.0]


def test_gates_that_shall_not_move_do_not() -> None:
    assert LearnConfig(gate_learning_rate=0.0).gate_rate == 0.0


@pytest.mark.parametrize("steps", [100, 300])
def test_a_tenth_of_the_size_is_reached_in_a_short_run(steps: int) -> None:
    """Against losses that want all parts open, with the default rates; it ended at 38 and 21 % once."""
    model, learn = parakeet(), LearnConfig(steps=steps)
    budget = make_budget(BudgetConfig(params="10%"), model.config)
    gates = Gates(model)
    lagrangian = Lagrangian(budget.fraction, round(learn.budget_warmup * steps), learn.quadratic_start)
    groups = [
        {"params": gates.parameters(), "lr": learn.gate_rate},
        {"params": lagrangian.parameters(), "lr": learn.multiplier_learning_rate, "maximize": True},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        share = expected_cost(budget.table, gates) / budget.table.full
        values = gates.distribution.sample(gates.log_alpha, generator)
        task = -0.3 * torch.stack([values[group.span].mean() for group in gates.groups]).sum()
        optimizer.zero_grad()
        (task + lagrangian(share, step)).backward()
        optimizer.step()
        gates.clamp_()
    assert float(expected_cost(budget.table, gates)) / budget.table.full == pytest.approx(0.1, abs=0.015)


def test_multipliers_ascend():
    lagrangian = Lagrangian(0.5, warmup_steps=0)
    optimizer = torch.optim.AdamW(lagrangian.parameters(), lr=0.1, maximize=True, weight_decay=0.0)
    lagrangian(torch.tensor(0.9), step=0).backward()
    optimizer.step()
    assert lagrangian.linear > 0
    assert lagrangian.quadratic > 0
    assert lagrangian(torch.tensor(0.9), 0) > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("150%", "is a share; give more than 0% and at most 100%"),
        ("0%", "is a share; give more than 0%"),
        ("50", "would be 50 in all; did you mean '50%'"),
        ("0.5", "would be 0 in all; did you mean '50%'"),
        ("1.0", "would be 1 in all; did you mean '100%'"),
        ("1", "would be 1 in all; did you mean '1%'"),
        ("2.5", "would be 2 in all; did you mean '2.5%'"),
        ("-5%", "Cannot read the budget '-5%'"),
    ],
)
def test_a_budget_that_none_can_mean_is_refused(text: str, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        BudgetConfig(params=text)
