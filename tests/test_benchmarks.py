"""The benchmarks run from end to end on a toy, and measure the same work: the plain implementation
gives the numbers of the package."""

import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rlhf_helpers import ppo, reward, sampling
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.records import Rollout
from rlhf_helpers.tasks import Task

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def work(bench):
    return bench("speed").Work(model="toy", batch=8, query=6, response=5)


@pytest.mark.parametrize("part", ["sampling", "reward", "pairs", "ppo", "grouped"])
def test_every_part_runs_and_reports_a_ratio_for_everybody(bench, capsys, monkeypatch, part):
    # a processor that has bf16; where there was none, the test failed
    monkeypatch.setattr(bench("speed").bf16, "speedup", lambda kind: 2.0)
    small = "--model toy --batch 8 --query 6 --response 5 --epochs 1 --rounds 1".split()
    small += ["--machine-size", "32"]
    bench("speed").main([*small, "--clock", "processor", "--parts", part])
    rows = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| ") and "over it" not in line
    ]
    contenders = [row for row in rows if "floor" not in row]
    assert len(contenders) >= 3 and len(rows) == len(contenders) + 2
    assert all(
        re.search(r"\| [\d.,e+]+ \| [\d.]+ \| [\d.]+ \| [\d,-]+ \|$", row) for row in contenders
    ), rows
    assert "| 1.00 |" in contenders[0] and contenders[0].startswith("| ours, fp32")


@pytest.mark.parametrize("part", ["sampling", "reward"])
def test_bf16_is_left_out_where_the_processor_has_none(bench, capsys, monkeypatch, part):
    """At 0.9 GFLOP/s instead of 48 the benchmark never ended."""
    monkeypatch.setattr(bench("speed").bf16, "speedup", lambda kind: 0.02)
    real, kinds = torch.Tensor.to, []
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *a, **o: kinds.extend(a) or real(x, *a, **o))
    small = "--model toy --batch 8 --query 6 --response 5 --rounds 1 --machine-size 32".split()
    bench("speed").main([*small, "--clock", "processor", "--parts", part])
    said = capsys.readouterr().out
    assert "ours, fp32" in said and "floor, fp32" in said and "bf16" not in said
    assert torch.float32 in kinds and torch.bfloat16 not in kinds


def test_generate_writes_every_token_though_the_model_knows_an_end(bench, work):
    """It stopped at the model's own end token, which transformers 5 takes where the settings say
    None: less work than ours did."""
    lm = work.language_model()
    # whatever is drawn ends it
    lm.generation_config.eos_token_id = list(range(lm.config.vocab_size))
    assert bench("plain").generate(lm, work.queries(2).tokens, 5, 1.0).shape == (2, work.query + 5)


def test_layers_written_out_draw_the_same_tokens_as_the_package(bench, work):
    lm, queries = work.language_model().eval(), work.queries(8)
    policy, ours = Policy(lm), torch.Generator().manual_seed(4)
    rollout = sampling.sample(policy, queries, 5, 0.7, ours)
    uniform = torch.rand(8, 5, generator=torch.Generator().manual_seed(4))
    tokens, logprobs = bench("lean").sample(lm, queries.tokens, uniform, 0.7, torch.float32)
    assert torch.equal(tokens, rollout.responses) and torch.allclose(
        logprobs, rollout.logprobs, atol=1e-5
    )


def test_ratios_are_medians_within_rounds(bench):
    rounds = bench("rounds")
    # The third round was slow for both alike; medians of each alone would say 2 / 1.
    ours, theirs = rounds.Measured(10, [1.0, 1.0, 8.0]), rounds.Measured(10, [3.0, 2.0, 24.0])
    assert rounds.ratio(ours, theirs) == 3 and ours.rate == 10


def test_contenders_take_turns_after_one_round_of_warming_up(bench):
    said = []
    contenders = {name: lambda name=name: lambda: said.append(name) for name in "ab"}
    found = bench("rounds").compare(contenders, 1, 3, torch.device("cpu"))
    assert "".join(said) == "ab" + 3 * "ab" and [len(m.seconds) for m in found.values()] == [3, 3]


def test_peak_memory_sees_what_was_held_for_a_moment(bench):
    with bench("rounds").peak_memory(torch.device("cpu")) as peak:
        torch.ones(20_000_000).sum()  # 80 MB, gone at once
    if peak() is None:
        pytest.skip("this system does not tell")
    assert 70e6 < peak() < 120e6


def test_plain_ppo_has_the_loss_and_the_gradient_of_the_package(bench, work):
    plain = bench("plain").PPO(work.language_model(), work.classifier(), 1e-3)
    policy = Policy(work.language_model())
    with torch.no_grad():
        for head in (plain.value_head, policy.value_head):
            head.weight.copy_(torch.linspace(-1, 1, 16)), head.bias.fill_(0.3)
    rollout = sampling.sample(policy, work.queries(8), 5, 0.7, torch.Generator().manual_seed(0))
    noise = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(1))
    rollout = Rollout(
        rollout.queries,
        rollout.responses,
        rollout.mask,
        rollout.logprobs + 0.3 * noise[0],
        rollout.values + 0.3 * noise[1],
    )
    task = Task("toy", "none", 6, 5, ".", 2, 0.7)
    config = ppo.PPOConfig(batch=8, minibatches=1, lam=0.95, whiten_rewards=True)
    ours, _ = ppo.losses(policy, rollout, *ppo.targets(rollout, noise[2], config), task, config)
    tokens = torch.cat([rollout.queries.tokens, rollout.responses], 1)
    theirs = plain.loss(tokens, 6, rollout.logprobs, rollout.values, noise[2], 0.7, 0.95)
    ours.backward(), theirs.backward()
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    for mine, yours in zip(policy.lm.parameters(), plain.lm.parameters(), strict=True):
        assert torch.allclose(mine.grad, yours.grad, atol=1e-5)
    assert torch.allclose(policy.value_head.weight.grad, plain.value_head.weight.grad, atol=1e-5)


def test_plain_rewards_are_those_of_the_packed_rows(bench, work):
    tokens = work.ids(8, 4, 11)
    tokens[:, :, :6] = tokens[:, :1, :6]
    data = reward.Encoded(
        tokens, torch.ones_like(tokens, dtype=torch.bool), torch.zeros(8, dtype=torch.long), 6
    )
    ours = reward.option_rewards(RewardModel(work.classifier()), data)
    assert torch.allclose(ours, bench("plain").option_rewards(work.classifier(), tokens), atol=1e-5)


def test_counted_products_are_those_that_torch_counts(bench, work):
    floor, lm = bench("floor"), work.language_model()
    # whose products are counted one by one: all pairs of tokens, read or not
    lm.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter:
        lm(work.ids(3, 9))
    assert counter.get_total_flops() == 3 * (
        floor.trunk_flops(lm.config, 9, 9 * 9) + floor.head_flops(lm.config, 9)
    )
    # Only pairs that see each other: 9 tokens at once, or 5 after 4 in a cache.
    assert floor.pass_flops(lm.config, 9) == floor.trunk_flops(lm.config, 9, sum(range(1, 10)))
    assert floor.pass_flops(lm.config, 9, 4) == pytest.approx(
        floor.pass_flops(lm.config, 9) - floor.pass_flops(lm.config, 4)
    )


def test_the_floor_of_several_answers_computes_their_prompt_once_in_every_pass(bench, work):
    floor, config = bench("floor"), work.language_model().config
    fast = floor.Machine({"fp32": 1.0}, memory=1e30)  # seconds are operations
    alone, shared = (
        floor.ppo_seconds(fast, config, 8, 6, 5, 4, "fp32", answers) for answers in (1, 4)
    )
    # 6 of 8 prompts are saved: in sampling, by the reference, in scoring, forward and twice back
    saved = 6 * floor.pass_flops(config, 6) * (1 + 1 + 1 + 3 * 4)
    assert alone - shared == pytest.approx(saved)


def test_the_floor_waits_for_memory_where_that_is_slower(bench, work):
    floor, config = bench("floor"), work.language_model().config
    weights = 12 * 16**2 + 16 * 3072  # one layer, width 16
    # multiplies in no time, reads a byte a second
    still = floor.Machine({"fp32": 1e30}, memory=1.0)
    # 4 steps after the prefill: weights, keys and values
    read = sum(4 * (weights + 8 * 2 * 16 * length) for length in (7, 8, 9, 10))
    assert floor.sampling_seconds(still, config, 8, 6, 5, "fp32") == pytest.approx(read)


def test_rows_of_other_models_are_not_averaged_with_todays(bench):
    """After a new base model, the old one's rows were taken for runs that had been done."""
    old, new = ({"arm": "kept", "seed": 0, "models": [x, "reward"]} for x in ("old", "new"))
    lines = [json.dumps(row) for row in (old, new, {"arm": "kept", "seed": 0})]
    assert bench("nats").fitting(lines, ["new", "reward"]) == [new]
