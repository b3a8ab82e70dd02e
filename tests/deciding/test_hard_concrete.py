import pytest
import torch

from compress.deciding.hard_concrete import HardConcrete

GATE = HardConcrete()


def test_probabilities_are_those_of_the_paper():
    # papers: log alpha 0 -> P(z > 0) .832; 4.6 -> .998; -1.6 -> .50; -4.6 -> .047
    locations = torch.tensor([0.0, 4.6, -1.6, -4.6])
    assert torch.allclose(GATE.probability_open(locations), torch.tensor([0.832, 0.998, 0.50, 0.047]), atol=2e-3)


def test_samples_have_the_stated_probability_of_being_open_and_of_being_one():
    generator = torch.Generator().manual_seed(0)
    for location in (-2.0, 0.0, 1.5):
        samples = GATE.sample(torch.full((200_000,), location), generator)
        opened = float(GATE.probability_open(torch.tensor(location)))
        assert samples.min() >= 0
        assert samples.max() <= 1
        assert float((samples > 0).float().mean()) == pytest.approx(opened, abs=5e-3)
        # By symmetry a gate is exactly 1 as often as one of opposite location is exactly 0.
        ones = 1 - float(GATE.probability_open(torch.tensor(-location)))
        assert float((samples == 1).float().mean()) == pytest.approx(ones, abs=5e-3)


def test_samples_repeat_under_the_same_generator_and_differ_otherwise():
    location = torch.zeros(50)
    draws = [GATE.sample(location, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_everything_is_float32_under_autocast_and_half_precision():
    location = torch.zeros(9, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        for value in (GATE.sample(location), GATE.probability_open(location), GATE.deterministic(location)):
            assert value.dtype == torch.float32


def test_the_mean_of_many_gates_is_that_of_each():
    locations = torch.linspace(-4, 4, 2 * 5000).view(2, 5000)
    means = GATE.mean(locations)
    assert means.shape == locations.shape
    for row, column in ((0, 0), (0, 4999), (1, 17)):
        assert torch.allclose(means[row, column], GATE.mean(locations[row, column]), atol=1e-6)


def test_the_gradient_reaches_the_location():
    location = torch.zeros(1000, requires_grad=True)
    GATE.sample(location, torch.Generator().manual_seed(0)).sum().backward()
    assert location.grad is not None
    assert float(location.grad.mean()) > 0


def test_deterministic_values_are_zero_and_one_at_the_ends():
    values = GATE.deterministic(torch.tensor([-4.6, 0.0, 4.6]))
    assert values.tolist() == pytest.approx([0.0, 0.5, 1.0])


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_drop_rate_is_the_probability_of_being_closed(rate):
    location = torch.tensor(GATE.log_alpha_for(rate))
    assert float(GATE.probability_open(location)) == pytest.approx(1 - rate, abs=1e-6)


def test_a_drop_rate_lies_between_0_and_1():
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            GATE.log_alpha_for(rate)


@pytest.mark.parametrize("values", [{"temperature": 0.0}, {"low": 0.1}, {"high": 0.9}])
def test_senseless_parameters_are_refused(values):
    with pytest.raises(ValueError, match="must"):
        HardConcrete(**values)


def test_the_mean_is_that_of_samples_and_never_zero():
    gates = HardConcrete()
    log_alpha = torch.tensor([-4.6, -2.5, 0.0, 1.0, 4.6])
    samples = gates.sample(log_alpha.expand(20000, -1), torch.Generator().manual_seed(0))
    assert torch.allclose(gates.mean(log_alpha), samples.mean(0), atol=0.01)
    assert (gates.mean(log_alpha) > 0).all()
    closed = 1 - gates.probability_open(log_alpha)
    assert torch.allclose(gates.log_probability_closed(log_alpha).exp(), closed, atol=1e-6)
