from __future__ import annotations

import pytest
import torch

from compress.training.loop.schedule import set_learning_rates, warmup_cosine


def test_rises_to_the_peak_and_falls_to_the_floor() -> None:
    factors = [warmup_cosine(step, total_steps=100, warmup_steps=10, floor=0.1) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.55)
    assert factors[100] == pytest.approx(0.1)
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_no_warmup_starts_at_the_peak_and_stays_at_the_floor_after_the_end() -> None:
    assert warmup_cosine(0, 10, 0) == 1.0
    assert warmup_cosine(25, 10, 0, floor=0.2) == pytest.approx(0.2)


def test_all_warmup_is_allowed() -> None:
    assert warmup_cosine(3, 4, 4) == 1.0


@pytest.mark.parametrize(
    ("warmup", "floor", "named"), [(11, 0.0, "warmup_steps"), (-1, 0.0, "warmup_steps"), (1, 1.5, "floor")]
)
def test_impossible_schedules_are_refused(warmup: int, floor: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        warmup_cosine(0, 10, warmup, floor)


def test_rates_are_set_by_name_and_only_there() -> None:
    groups = [
        {"params": [torch.nn.Parameter(torch.ones(1))], "name": name, "lr": 1.0}
        for name in ("weights", "weights", "gates")
    ]
    optimizer = torch.optim.AdamW(groups)
    set_learning_rates(optimizer, {"weights": 0.5})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 1.0]
    with pytest.raises(ValueError, match=r"no parameter group \['gate'\].*gates"):
        set_learning_rates(optimizer, {"gate": 0.1})
