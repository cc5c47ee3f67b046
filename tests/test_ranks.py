"""Many processes, one model: two ranks with gloo equal one process on the same global batch; parts
of a batch equal the whole."""

import json
import multiprocessing
import socket

import pytest
import rank_worker
import torch

from rlhf_helpers import ppo, sampling
from rlhf_helpers.runtime import files, ranks, seeds
from rlhf_helpers.runtime.ranks import Ranks
from rlhf_helpers.runtime.runs import Run

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs fork"
)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def launch(what, folder, count=2):
    """Start `count` ranks, with the environment that torchrun gives, and wait; returns their exit
    codes and what they said."""
    folder.mkdir(exist_ok=True)
    # forked: a fresh Python would spend its time on imports
    port, forks = free_port(), multiprocessing.get_context("fork")
    started = [
        forks.Process(target=rank_worker.begin, args=(what, folder, i, count, port))
        for i in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=120)
    return [p.exitcode for p in started], [(folder / f"{i}.txt").read_text() for i in range(count)]


def results(folder, count=2):
    return [torch.load(folder / f"{i}.pt", weights_only=False) for i in range(count)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two ranks that tuned together, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    codes, said = launch("tune", folder)
    assert codes == [0, 0], said
    return folder, results(folder)


# ---- several processes ---------------------------------------------------------------------------


def test_ranks_begin_alike_sample_apart_and_end_alike(two):
    _, (first, second) = two
    assert [x["seed"] for x in (first, second)] == [seeds.derive(7, "rank", i) for i in (0, 1)]
    assert not torch.equal(first["first"][0], second["first"][0])
    # bit for bit the same policy
    assert all(torch.equal(w, second["weights"][name]) for name, w in first["weights"].items())
    # one controller
    assert [line["beta"] for line in first["lines"]] == [line["beta"] for line in second["lines"]]
    assert first["lines"] == second["lines"] and len({line["beta"] for line in first["lines"]}) > 1


def test_two_ranks_equal_one_process_on_the_same_global_batch(two, monkeypatch):
    """One process that is dealt, step by step, what the two ranks sampled, ends with their weights
    and their numbers."""
    _, (first, second) = two
    dealt = iter([torch.cat(pair) for pair in zip(first["first"], second["first"])])
    # as rank 0's, which also sampled its eight rows
    permutations = seeds.generator(7, "rank", 0)
    real = sampling.sample

    def sample(policy, queries, length, temperature, generator, micro_batch=None, answers=1):
        # draws as many random numbers as rank 0 did
        real(policy, queries[:8], length, temperature, permutations)
        responses = next(dealt)
        mask = torch.ones_like(responses, dtype=torch.bool)
        blank = torch.zeros(responses.shape)
        rollout = ppo.Rollout(queries, responses, mask, blank, blank)
        with torch.no_grad():
            now = sampling.replay(policy, rollout, temperature)
        return ppo.Rollout(queries, responses, mask, now.logprobs, now.values)

    monkeypatch.setattr(sampling, "sample", sample)
    monkeypatch.setattr(Run, "generator", permutations, raising=False)
    monkeypatch.setattr(
        Run,
        "__setattr__",
        lambda self, k, v: None if k == "generator" else object.__setattr__(self, k, v),
    )
    weights, lines, _, _ = rank_worker.tune(None)
    for name, weight in weights.items():
        assert torch.allclose(weight, first["weights"][name], atol=2e-5), name
    for ours, theirs in zip(lines, first["lines"]):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=2e-5)


def test_a_reward_model_fitted_by_two_ranks_is_that_of_one(tmp_path):
    codes, said = launch("fit", tmp_path)
    assert codes == [0, 0], said
    weights, lines = rank_worker.fit(None)
    for result in results(tmp_path):
        assert all(
            torch.allclose(w, result["weights"][name], atol=1e-5) for name, w in weights.items()
        )
        for ours, theirs in zip(lines, result["lines"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_weights_in_shards_give_the_numbers_of_whole_ones(two, tmp_path):
    codes, said = launch("sharded", tmp_path)
    assert codes == [0, 0], said
    for result in results(tmp_path):
        assert all(
            torch.allclose(w, two[1][0]["weights"][name], atol=2e-5)
            for name, w in result["weights"].items()
        )
    assert (tmp_path / "run/checkpoint/state.safetensors").stat().st_size == (
        two[0] / "run/checkpoint/state.safetensors"
    ).stat().st_size


def test_a_lost_rank_ends_all_with_a_message_and_leaves_a_good_checkpoint(tmp_path):
    codes, said = launch("lost", tmp_path)
    assert codes == [3, 17]
    assert (
        "RankLost: another process of this run has gone" in said[0]
        and "run the same command again" in said[0]
    )
    state = json.loads((tmp_path / "run/checkpoint/state.json").read_text())
    lines = (tmp_path / "run/metrics.jsonl").read_bytes()[: state["metrics_bytes"]].splitlines()
    assert state["steps_done"] == 2 and len(lines) == 2
    codes, said = launch("tune", tmp_path)  # the same command again
    assert codes == [0, 0], said
    assert [line["step"] for line in results(tmp_path)[0]["lines"]] == [0, 1, 2, 3]


def test_a_rank_lost_while_others_put_sharded_weights_together_ends_all_with_a_message_too(
    tmp_path,
):
    codes, said = launch("lost in the middle", tmp_path)
    assert codes == [3, 17] and "RankLost: another process of this run has gone" in said[0], said
    assert json.loads((tmp_path / "run/checkpoint/state.json").read_text())["steps_done"] == 2


GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:456] "


@pytest.mark.parametrize("error, is_lost", [
    (RuntimeError(f"{GLOO}Connection closed by peer [127.0.0.1]:48872"), True),
    (RuntimeError(f"{GLOO}Read error [127.0.0.1]:22959: Connection reset by peer"), True),
    (RuntimeError(f"{GLOO}Timed out waiting 8000ms for recv operation to complete"), True),
    (torch.distributed.DistNetworkError("The client socket has timed out"), True),
    (torch.distributed.DistBackendError("ncclRemoteError: A call failed possibly"), True),
    (torch.distributed.DistBackendError("NCCL communicator was aborted on rank 1"), True),
    # once, everything that a collective raised was called a lost rank
    (RuntimeError(f"{GLOO}op.preamble.length <= op.nbytes. 8 vs 4. Received data size doesn't "
                  "match expected size"), False),
    (RuntimeError("ProcessGroupGloo::allgather: invalid output tensor list at index 0 "
                  "(expected length 2, got 1)"), False),
    (torch.distributed.DistBackendError("ncclUnhandledCudaError: Call to CUDA function failed. "
                                        "Last error: Cuda failure 2 'out of memory'"), False),
    (torch.distributed.DistBackendError("ncclInvalidUsage: Duplicate GPU detected"), False),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB. connection"), False),
    (RuntimeError("shapes do not match"), False), (RuntimeError("Connection reset"), False),
])  # fmt: skip
def test_only_a_lost_process_is_called_one(error, is_lost):
    """Out of memory and shapes that do not fit were called a lost rank, which sent people to look
    for a crash on another machine. The messages are those that torch 2 gave here."""
    with pytest.raises(RuntimeError) as caught, ranks.detecting_lost_ranks():
        raise error
    assert type(caught.value) is (ranks.RankLost if is_lost else type(error))


@pytest.mark.parametrize("what", ["nan in the fit", "nan in ppo", "nan score", "nan in shards"])
def test_a_loss_that_is_not_a_number_on_one_rank_stops_all_at_once(tmp_path, what):
    codes, said = launch(what, tmp_path)
    assert codes == [3, 3], said
    assert all("FloatingPointError: " in words and "RankLost" not in words for words in said)


def test_unequal_micro_batches_are_refused_before_anything_is_trained(tmp_path):
    """Ranks with a different number of parts wait for each other for ever when weights are
    sharded."""
    codes, said = launch("unequal micro-batches", tmp_path)
    assert codes == [3, 3] and not (tmp_path / "run/checkpoint").exists()
    for words in said:
        assert (
            "ranks disagree about settings: rank 0 has {'micro_batch': 4}, rank 1 has "
            "{'micro_batch': 2}; start all of them with the same command" in words
        )


def test_what_the_first_rank_does_or_what_it_raises_reaches_every_rank(tmp_path):
    codes, said = launch("from first", tmp_path)
    assert codes == [3, 3] and all("ValueError: rank 0 alone did this" in x for x in said), said
    assert [torch.load(tmp_path / f"{i}.pt") for i in (0, 1)] == [["by rank 0"]] * 2


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been_with_ranks_too(two, tmp_path):
    assert launch("lost", tmp_path)[0] == [3, 17] and launch("tune", tmp_path)[0] == [0, 0]
    for straight, resumed in zip(two[1], results(tmp_path)):
        assert straight["lines"] == resumed["lines"]
        assert all(
            torch.equal(w, resumed["weights"][name]) for name, w in straight["weights"].items()
        )
        assert torch.equal(straight["generator"], resumed["generator"])


@pytest.mark.parametrize("count", [1, 4])
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path, count):
    assert launch("lost", tmp_path)[0] == [3, 17]
    if count == 1:
        lines = rank_worker.tune(tmp_path / "run")[1]
    else:
        codes, said = launch("tune", tmp_path, count)
        assert codes == [0] * count, said
        lines = results(tmp_path, count)[0]["lines"]
    kept = files.read_metrics(tmp_path / "run/metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 2, 3] and lines == kept


def test_ranks_with_other_settings_are_refused_before_anything_is_trained(tmp_path):
    codes, said = launch("mismatched", tmp_path)
    assert codes == [3, 3] and all(
        "ranks disagree about settings: rank 0 has {'ppo.lr': 0.01}" in words for words in said
    )
    assert not (tmp_path / "run/checkpoint").exists()


def test_a_checkpoint_that_cannot_be_read_says_what_to_do(tmp_path):
    rank_worker.fit(tmp_path)
    file = tmp_path / "checkpoint" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        OSError,
        match="checkpoint cannot be read .*remove that folder to start again, or restore it",
    ):
        rank_worker.fit(tmp_path)


# ---- parts of a batch ----------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [1, 3, 8, 100])
def test_micro_batches_give_the_result_of_one_big_batch(micro_batch):
    weights, lines, first, _ = rank_worker.tune(None)
    others, other_lines, other_first, _ = rank_worker.tune(None, micro_batch=micro_batch)
    assert all(torch.equal(a, b) for a, b in zip(first, other_first))
    assert all(torch.allclose(w, others[name], atol=2e-5) for name, w in weights.items())
    for ours, theirs in zip(lines, other_lines):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=2e-5)


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_micro_batches_change_no_reward_model(micro_batch):
    (weights, lines), (others, other_lines) = (
        rank_worker.fit(None),
        rank_worker.fit(None, micro_batch=micro_batch),
    )
    assert all(torch.allclose(w, others[name], atol=1e-5) for name, w in weights.items())
    assert all(
        a == pytest.approx(b, rel=1e-4, abs=1e-6) for a, b in zip(lines, other_lines, strict=True)
    )


def test_a_share_is_cut_into_parts_that_cover_it_once():
    rows = [
        list(range(12))[part]
        for rank in range(3)
        for part in Ranks(rank, 3, micro_batch=3).micro_batches(12)
    ]
    assert rows == [[0, 1, 2], [3], [4, 5, 6], [7], [8, 9, 10], [11]]
    assert [list(range(5))[part] for part in Ranks().micro_batches(5)] == [[0, 1, 2, 3, 4]]


def test_only_the_first_rank_keeps_whole_tensors_for_a_checkpoint():
    """Every rank kept all weights and moments whole on its GPU at once: three times what sharding
    had saved."""
    weight = torch.nn.Parameter(torch.ones(2))
    assert Ranks(1, 2).full_on_first(weight) is None
    kept = Ranks(0, 2).full_on_first(weight)
    assert torch.equal(kept, torch.ones(2)) and not kept.requires_grad and kept.device.type == "cpu"


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(
        ValueError,
        match="a batch of 10 cannot be divided evenly among 4 ranks: make it a multiple of 4",
    ):
        Ranks(1, 4).local_rows(10)
    with pytest.raises(ValueError, match="at least one row"):
        Ranks(micro_batch=0)


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no GPU here"):
        Run(device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match="rank 3 needs GPU 3, but there are 2: lower --nproc-per-node"
    ):
        ranks.from_environment()
