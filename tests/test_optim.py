"""TensorFlow's Adam against its formula, written out in float64."""

import torch

from rlhf_helpers.runtime.optim import TensorFlowAdam


def test_equals_the_formula_of_tensorflow():
    torch.manual_seed(0)
    start = torch.randn(5, dtype=torch.float64)
    gradients = torch.randn(7, 5, dtype=torch.float64) * 1e-4  # small, so that eps matters
    parameter = torch.nn.Parameter(start.clone())
    optimizer = TensorFlowAdam([parameter], lr=0.01)
    p, m, v = (
        start.clone(),
        torch.zeros(5, dtype=torch.float64),
        torch.zeros(5, dtype=torch.float64),
    )
    for t, g in enumerate(gradients, start=1):
        parameter.grad = g.clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p = p - 0.01 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v.sqrt() + 1e-5)
        torch.testing.assert_close(parameter.detach(), p, rtol=1e-10, atol=0)


def test_first_step_is_shorter_than_pytorchs():
    moved = {}
    for kind in (TensorFlowAdam, lambda ps, lr: torch.optim.Adam(ps, lr=lr, eps=1e-5)):
        parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = kind([parameter], lr=1.0)
        parameter.grad = torch.tensor([1e-4], dtype=torch.float64)
        optimizer.step()
        moved[kind] = -parameter.item()
    tensorflow, pytorch = moved.values()
    # by hand: g / (g + eps / sqrt(0.001)) = 1e-4 / (1e-4 + 3.162e-4); g / (g + eps) = 1e-4 / 1.1e-4
    torch.testing.assert_close([tensorflow, pytorch], [0.24025307335204216, 1 / 1.1])


def test_a_resumed_optimizer_goes_on_where_it_was():
    def run(interrupted: bool) -> torch.Tensor:
        parameter = torch.nn.Parameter(torch.ones(3))
        optimizer = TensorFlowAdam([parameter], lr=0.1)
        for i in range(6):
            if interrupted and i == 3:
                state = optimizer.state_dict()
                optimizer = TensorFlowAdam([parameter], lr=0.1)
                optimizer.load_state_dict(state)
            parameter.grad = torch.full((3,), 1e-4 * (i + 1))
            optimizer.step()
        return parameter.detach()

    assert torch.equal(run(True), run(False))
