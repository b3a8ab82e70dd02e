"""Run by torchrun on two processes (see test_two_ranks.py): what the ranks of a gated student agree on, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

import compress
from compress.curvature.fisher import fisher_scores
from compress.curvature.moments import Total, alone
from compress.curvature.repair import RefitConfig, Repair
from compress.data import Batch
from compress.deciding.budget import BudgetConfig, Lagrangian, decide, make_budget
from compress.deciding.gates import GateConfig
from compress.training.loop import processes
from compress.training.loop.checkpoints import Checkpoints
from compress.training.loop.losses import Losses
from compress.training.loop.progress import Progress
from compress.training.loop.unalignable import Unalignable
from compress.training.preparation import prepare_for_training
from compress.training.student import GatedStudent
from tests.helpers.tiny import parakeet, random_structure

STEPS = 3


def own_features(step: int, rank: int | None = None) -> Tensor:
    """Other speech on every rank and in every step."""
    rank = processes.rank() if rank is None else rank
    generator = torch.Generator().manual_seed(100 * step + rank)
    return torch.randn(2, 40 + 8 * rank, 16, generator=generator)


def repaired_weights(ranks: list[int], total: Total) -> Tensor:
    """What a refit makes of a smaller model on the speech of some ranks."""
    whole = parakeet()
    small = compress.remove(whole, random_structure(whole, 4)).eval()
    speech = [{"input_features": own_features(0, rank)} for rank in ranks]
    list(Repair(small, whole, speech, RefitConfig(), total).run())
    return torch.cat([parameter.detach().flatten() for parameter in small.parameters()])


def scores(ranks: list[int], total: Total) -> Tensor:
    """Scores of all units on the speech of some ranks."""
    labels = torch.tensor([[3, 5], [7, 1]])
    speech = [Batch({"input_features": own_features(0, rank)}, labels, ["a", "b"], ["", ""], 1.0) for rank in ranks]
    return torch.cat(list(fisher_scores(parakeet(), speech, total).values()))


def loss_of(student: Any, gated: GatedStudent, step: int) -> Tensor:
    logits = student(input_features=own_features(step))
    return 100 * logits.square().mean() + gated.lagrangian(gated.expected_share(), step)


def gradients(student: GatedStudent) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def main(out: str) -> None:
    accelerator = Accelerator(cpu=True)
    model = parakeet()
    prepare_for_training(model, dropout=0.0)
    model.train()
    budget = make_budget(BudgetConfig(params="60%"), model.config)
    student = GatedStudent(model, GateConfig(drop_rate=0.2), budget, Lagrangian(budget.fraction, 1, 5.0), seed=0)
    wrapped, optimizer = accelerator.prepare(student, torch.optim.Adam(student.parameters(), lr=0.05))

    before = student.gates.log_alpha.detach().clone()
    student.draw()
    with accelerator.no_sync(wrapped):
        loss_of(wrapped, student, 0).backward()
    local = gradients(student)
    optimizer.zero_grad()
    accelerator.backward(loss_of(wrapped, student, 0))
    averaged = gradients(student)
    every = processes.gather(local)
    mean = {name: torch.stack([one[name] for one in every]).mean(0) for name in local}

    for step in range(1, STEPS + 1):
        optimizer.step()
        optimizer.zero_grad()
        student.draw()
        accelerator.backward(loss_of(wrapped, student, step))
    alphas = processes.gather(student.gates.log_alpha.detach())
    drawn = processes.gather(student.gates.distribution.sample(student.gates.log_alpha, student.noise.generator))
    structures = processes.gather(decide(budget, student.gates.scores()).to_dict())
    with torch.no_grad():  # were ranks ever to differ, rank 0 alone would decide
        student.gates.log_alpha.mul_(1.0 if processes.rank() == 0 else -1.0)
    own = decide(budget, student.gates.scores())
    agreed = processes.gather(processes.from_main(own).to_dict())
    result = {
        "ranks": processes.world_size(),
        "gates_differ_locally": difference(
            {"gates": every[0]["gates.log_alpha"]}, {"gates": every[1]["gates.log_alpha"]}
        ),
        "averaged_minus_mean": difference(averaged, mean),
        "names": sorted(averaged),
        "alphas_differ": float((alphas[0] - alphas[1]).abs().max()),
        "alphas_moved": float((alphas[0] - before).abs().max()),
        "draws_equal": torch.equal(*drawn),
        "structures": structures,
        "spoilt_own": processes.gather(own.to_dict()),
        "agreed": agreed,
    }
    mine = [processes.rank()]
    result["scores_of_two_minus_one"] = difference(
        {"all": scores(mine, processes.summed)}, {"all": scores([0, 1], alone)}
    )
    together, apart = repaired_weights(mine, processes.summed), repaired_weights([0, 1], alone)
    result["repaired_of_two_minus_one"] = difference({"all": together}, {"all": apart})
    result["repaired_on_one_alone"] = difference({"all": repaired_weights([0], alone)}, {"all": apart})
    unalignable, progress = Unalignable({f"of {processes.rank()}"}), Progress(2, description="train", log_every=2)
    progress.advance(1, Losses.summed({"ctc": torch.tensor(float(processes.rank()))}))
    states = {"unalignable": unalignable, "progress": progress}
    Checkpoints(f"{out}.checkpoints").save(1, states, student)
    states = {"unalignable": Unalignable(), "progress": Progress(2, description="train", log_every=2)}
    Checkpoints(f"{out}.checkpoints").restore(states, student)
    result["restored_of_each"] = [sorted(ids) for ids in processes.gather(states["unalignable"].ids)]
    result["restored_mean"] = states["progress"]._averages()["loss/ctc"]
    is_main = processes.rank() == 0
    del wrapped, optimizer
    processes.leave(accelerator)
    result["threads_left"] = sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    if is_main:
        Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
