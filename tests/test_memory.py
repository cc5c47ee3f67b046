"""The memory map against bytes that torch's allocator reports, and what is said when a run does not
fit."""

import copy
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import pytest
import torch
import transformers
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM

from rlhf_helpers import cli, ppo, sampling
from rlhf_helpers.cli import options, training
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.records import Queries
from rlhf_helpers.runtime import memory, runs
from rlhf_helpers.runtime.memory import memory_map
from rlhf_helpers.runtime.optim import TensorFlowAdam

GPT2 = transformers.GPT2Config(vocab_size=512, n_embd=64, n_layer=3, n_head=4, n_positions=128)
LLAMA = transformers.LlamaConfig(
    vocab_size=512, hidden_size=64, intermediate_size=160, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
)  # fmt: skip
SHAPE = {"batch": 16, "query": 40, "response": 24}


def live_and_peak(do):
    """Return the bytes that the allocator still holds after `do`, and the most it held meanwhile,
    both above what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = do()
    total = peak = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return total, peak, result


def made(config, **options):
    torch.manual_seed(0)
    return Policy(AutoModelForCausalLM.from_config(config), **options)


def rollout_of(policy):
    queries = Queries(torch.ones(16, 40, dtype=torch.long), torch.ones(16, 40, dtype=torch.bool))
    return sampling.sample(policy, queries, 24, 0.7, torch.Generator().manual_seed(0))


def bytes_of(tensors):
    return sum(
        {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values()
    )


@pytest.mark.parametrize("lora", [0, 4])
@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_weights_gradients_and_optimizer_are_those_of_a_real_step_byte_for_byte(config, lora):
    policy = made(config, lora=lora)
    reference, reward = policy.frozen_copy(), RewardModel.from_policy(policy)
    optimizer = TensorFlowAdam(policy.parameters(), lr=1e-3)
    now = sampling.replay(policy, rollout_of(policy))
    (now.logprobs.sum() + now.values.sum()).backward()
    optimizer.step()
    parts = memory_map(config, lora=lora, **SHAPE)
    own = {p.data_ptr() for p in policy.parameters()}
    moments = [v for state in optimizer.state.values() for v in state.values() if v.dim()]
    assert parts["policy"] == bytes_of(policy.parameters())
    assert parts["gradients"] == bytes_of(p.grad for p in policy.parameters() if p.grad is not None)
    assert parts["optimizer"] == bytes_of(moments)
    assert parts["reference"] == bytes_of(
        p for p in reference.parameters() if p.data_ptr() not in own
    )
    assert parts["reward model"] == bytes_of(reward.parameters())


@pytest.mark.parametrize(
    "options", [{}, {"checkpointing": True}, {"lora": 4}, {"precision": "bf16"}],
    ids=["plain", "checkpointing", "lora", "bf16"],
)  # fmt: skip
@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_activations_are_what_the_allocator_holds_after_a_real_forward_pass(config, options):
    policy = made(config, **options)
    rollout = rollout_of(policy)
    live, _, _ = live_and_peak(lambda: sampling.replay(policy, rollout, 0.7))
    assert memory_map(config, **SHAPE, **options)["activations"] == pytest.approx(live, rel=0.15)


@pytest.mark.parametrize("config", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_sampling_is_near_the_peak_that_the_allocator_reports(config):
    policy = made(config)
    _, peak, _ = live_and_peak(lambda: rollout_of(policy))
    assert 0.6 * peak < memory_map(config, **SHAPE)["sampling"] < 1.6 * peak


@pytest.mark.parametrize("minibatches, micro_batch", [(1, None), (1, 4), (2, None)])
def test_the_total_is_near_the_peak_of_whole_ppo_steps(task, minibatches, micro_batch):
    policy, config = (
        made(GPT2),
        ppo.PPOConfig(batch=16, minibatches=minibatches, episodes=32, epochs=2),
    )
    queries = Queries(torch.ones(16, 40, dtype=torch.long), torch.ones(16, 40, dtype=torch.bool))
    long = SimpleNamespace(**vars(task) | {"response_length": 24})

    def work():
        run = runs.Run(quiet=True, device="cpu", micro_batch=micro_batch)
        ppo.tune(
            policy, lambda r: (r.responses % 2 == 0).float().sum(-1), queries, long, config, run
        )

    _, peak, _ = live_and_peak(work)  # no reward model here, and the policy was there before
    parts = memory_map(GPT2, minibatches=minibatches, micro_batch=micro_batch, **SHAPE)
    assert 0.75 * peak < parts["total"] - parts["policy"] - parts["reward model"] < 1.5 * peak


def test_micro_batches_ranks_and_shards_take_what_they_should():
    whole = memory_map(GPT2, **SHAPE)
    part = memory_map(GPT2, micro_batch=4, **SHAPE)
    assert (
        part["activations"] == pytest.approx(whole["activations"] / 4, rel=0.01)
        and part["policy"] == whole["policy"]
    )
    # the command line once took the half for what is sampled, too
    halves = memory_map(GPT2, minibatches=2, **SHAPE)
    assert (
        halves["activations"] == pytest.approx(whole["activations"] / 2, rel=0.01)
        and halves["sampling"] == whole["sampling"]
    )
    shared = memory_map(GPT2, ranks=4, **SHAPE)
    assert (
        shared["activations"] == part["activations"] and shared["optimizer"] == whole["optimizer"]
    )
    sharded = memory_map(GPT2, ranks=4, sharded=True, **SHAPE)
    assert all(
        sharded[name] == whole[name] // 4
        for name in ("policy", "reference", "reward model", "gradients", "optimizer")
    )
    assert whole["total"] == sum(whole[n] for n in memory.PARTS[:5]) + max(
        whole["activations"], whole["sampling"]
    )


def test_the_sizes_are_those_of_gpt_2():
    """Parameters as published with the models, in millions: 124, 355, 774, 1558."""
    counted = {
        name: memory_map(c, batch=8, query=8, response=8)["policy"] / 4e6
        for name, c in memory.SIZES.items()
    }
    assert {name: round(n) for name, n in counted.items()} == {
        "124M": 124,
        "355M": 355,
        "774M": 774,
        "1.5B": 1558,
    }


def test_a_map_needs_no_memory():
    _, peak, _ = live_and_peak(
        lambda: memory_map(memory.SIZES["1.5B"], batch=16, query=16, response=9)
    )
    assert peak < 20e6


# ---- what is said --------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_with_the_micro_batch_that_would():
    rows = {n: memory_map(GPT2, micro_batch=n, **SHAPE)["total"] for n in (16, 8, 4)}
    assert (
        memory.largest_micro_batch(GPT2, rows[4], **SHAPE) == 4
        and memory.largest_micro_batch(GPT2, 1000, **SHAPE) is None
    )
    memory.check(GPT2, rows[16], **SHAPE)
    memory.check(GPT2, None, **SHAPE)
    with pytest.raises(
        MemoryError,
        match="about .* GB on each device with 16 rows at a time, but .* --micro-batch 4 would fit",
    ):
        memory.check(GPT2, rows[4], **SHAPE)
    with pytest.raises(
        MemoryError, match="no micro-batch would fit: try --checkpointing, --lora 16"
    ):
        memory.check(GPT2, 1000, **SHAPE)


def test_the_command_line_asks_before_it_loads(monkeypatch, tmp_path, capsys):
    GPT2.save_pretrained(tmp_path / "model")
    eight = memory_map(GPT2, batch=64, query=48, response=32, micro_batch=8)["total"]
    monkeypatch.setattr(memory, "free_bytes", lambda device: eight)
    assert (
        cli.main(
            [
                "tune",
                "--model",
                str(tmp_path / "model"),
                "--out",
                str(tmp_path / "run"),
                "--device",
                "cpu",
            ]
        )
        == 1
    )
    assert (
        "with 64 rows at a time" in (said := capsys.readouterr().err)
        and "--micro-batch 8 would fit" in said
    )


def test_running_out_on_a_gpu_is_explained(monkeypatch, capsys):
    def full(command):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    monkeypatch.setitem(cli.COMMANDS, "tune", (options.Tune, full))
    assert cli.main(["tune"]) == 1
    said = capsys.readouterr().err
    assert (
        "Halve --micro-batch" in said
        and "Tried to allocate 2 GiB" in said
        and "more" not in said.split("GiB")[1]
    )


def test_free_memory_is_what_the_system_says():
    free = memory.free_bytes(torch.device("cpu"))
    if Path("/proc/meminfo").exists():
        assert 0 < free <= 1024 * int(Path("/proc/meminfo").read_text().split()[1])
    assert training.memory is memory


def test_ranks_on_one_cpu_share_its_memory(monkeypatch):
    told = "MemTotal: 9 kB\nMemAvailable:    1000 kB\n"
    monkeypatch.setattr(memory.Path, "exists", lambda path: True)
    monkeypatch.setattr(memory.Path, "read_text", lambda path: told)
    for sizes, share in (
        ({}, 1_024_000),
        ({"WORLD_SIZE": "4"}, 256_000),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, 512_000),
    ):
        for name, value in sizes.items():
            monkeypatch.setenv(name, value)
        assert memory.free_bytes(torch.device("cpu")) == share


# ---- table and figure ----------------------------------------------------------------------------


def test_the_page_shows_the_table_that_is_computed():
    page = (Path(__file__).resolve().parents[1] / "docs" / "launch.md").read_text(encoding="utf-8")
    assert page.split("<!-- memory -->\n")[1].split("<!-- end of memory -->")[0] == memory.table()


def test_the_figure_stacks_the_parts_to_the_total():
    matplotlib.use("Agg")
    from rlhf_helpers.course import plots

    rows = [
        {"model": name, "setting": "fp32"} | memory_map(c, **SHAPE)
        for name, c in (("gpt2", GPT2), ("llama", LLAMA))
    ]
    ax = plots.memory_bars(rows, memory.PARTS)
    ends = [sum(bars[i].get_width() for bars in ax.containers) for i in range(2)]
    assert ends == pytest.approx([row["total"] / 1e9 for row in rows])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(
        memory.PARTS
    ) and ax.get_xlabel() == "GB on each device"
    assert len({bars[0].get_hatch() for bars in ax.containers}) == len(memory.PARTS)
    matplotlib.pyplot.close("all")


def test_a_model_saved_in_bfloat16_is_counted_as_it_is_loaded():
    """In float32: the activations of most published models were 42 % too low."""
    half = copy.deepcopy(LLAMA)
    half.dtype = torch.bfloat16
    assert memory_map(half, **SHAPE) == memory_map(LLAMA, **SHAPE)


def test_in_shards_loras_reference_shares_nothing():
    whole, shards = (
        memory_map(GPT2, **SHAPE, lora=4, ranks=4, sharded=sharded) for sharded in (False, True)
    )
    weights = memory_map(GPT2, **SHAPE, lora=4)["policy"]
    assert whole["reference"] < weights / 4 and shards["reference"] == weights // 4


def test_a_family_that_cannot_be_traced_stops_no_run(capsys):
    """Mixtral's experts ask how many tokens each of them got, which tensors without contents cannot
    say."""
    config = transformers.MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
        max_position_embeddings=64,
    )
    memory.check(config, 1, **SHAPE)
    assert "How much memory mixtral needs could not be worked out" in capsys.readouterr().out
