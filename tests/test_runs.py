"""A run's files: metrics, prompts of each step, and checkpoints that survive a kill at any
moment."""

import dataclasses
import hashlib
import json
import math
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
import types
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rlhf_helpers import models, ppo
from rlhf_helpers.course import profile
from rlhf_helpers.records import Queries
from rlhf_helpers.runtime import checkpoints, files, runs, seeds
from rlhf_helpers.runtime.runs import Run
from rlhf_helpers.tasks import Task


class Killed(BaseException):
    """Like the end of a process: nothing catches it."""


def made(width=3, value=0.0):
    model = nn.Linear(width, 1)
    nn.init.constant_(model.weight, value)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return model, optimizer


class Controller:
    beta = 0.15


@pytest.mark.parametrize("pool, count", [(10, 4), (7, 7), (5, 12), (64, 64), (9, 1)])
def test_every_pass_over_the_prompts_meets_each_once_in_a_fresh_order(pool, count):
    run = Run(seed=3, device="cpu")
    stream = torch.cat([run.batch_indices(pool, count, step) for step in range(6 * pool)])
    assert len(stream) == 6 * pool * count
    passes = stream.view(-1, pool)
    assert torch.equal(passes.sort(-1).values, torch.arange(pool).expand_as(passes))
    assert len({tuple(p.tolist()) for p in passes[:4]}) == 4


def test_prompts_depend_on_seed_and_step_alone():
    first, again, other = (
        Run(seed=1, device="cpu"),
        Run(seed=1, device="cpu"),
        Run(seed=2, device="cpu"),
    )
    first.batch_indices(50, 8, 0)
    torch.rand(5, generator=first.generator)
    assert torch.equal(first.batch_indices(50, 8, 9), again.batch_indices(50, 8, 9))
    assert not torch.equal(first.batch_indices(50, 8, 9), other.batch_indices(50, 8, 9))


def test_metrics_are_one_json_line_per_step_and_never_hold_nan(tmp_path):
    """They held NaN and Infinity, which are not JSON: other programs could not read the file."""
    run = Run(tmp_path, device="cpu")
    run.log(0, {"score": 0.1})
    run.log(1, {"score": float("nan"), "loss": float("-inf"), "beta": 0.5})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert (
        text == '{"step": 0, "score": 0.1}\n{"step": 1, "score": null, "loss": null, "beta": 0.5}\n'
    )
    back = files.read_metrics(tmp_path / "metrics.jsonl")
    assert back[0] == {"step": 0, "score": 0.1} and back[1]["beta"] == 0.5
    assert math.isnan(back[1]["score"]) and math.isnan(back[1]["loss"])
    assert [line["step"] for line in run.metrics()] == [0, 1]


def test_a_run_goes_on_from_a_checkpoint_whose_metrics_hold_nan(tmp_path):
    run, (model, optimizer) = Run(tmp_path, device="cpu"), made()
    run.log(0, {"value_explained_variance": float("nan")})
    run.save(1, model, optimizer)
    again = Run(tmp_path, device="cpu")
    assert again.restore(model, optimizer) == 1
    assert math.isnan(again.metrics()[0]["value_explained_variance"])


@pytest.mark.parametrize("folder", [None, "run"])
def test_a_run_used_twice_does_not_double_its_metrics(tmp_path, folder):
    """The second fit returned the lines of both, and drew other random numbers than the first."""
    run, draws = Run(folder and tmp_path / folder, seed=3, device="cpu"), []
    for _ in range(2):
        model, optimizer = made()
        for step in run.progress(run.restore(model, optimizer), 2, "toy"):
            run.log(step, {"loss": 0.5})
            draws.append(torch.rand(1, generator=run.generator).item())
    assert [line["step"] for line in run.metrics()] == [0, 1]
    assert draws[:2] == draws[2:]
    if folder:  # with a checkpoint at its end it has nothing left to do
        run.save(2, model, optimizer)
        assert list(run.progress(run.restore(model, optimizer), 2, "toy")) == []
        assert (tmp_path / folder / "metrics.jsonl").read_text().count("\n") == 2


def test_passes_and_ranks_share_no_random_numbers():
    """Sums of a seed and a number met: pass 100,003 of seed 0 was pass 0 of seed 1."""
    drawn = [seeds.derive(seed, purpose, n) for seed in (0, 1, 100_003) for n in (0, 1, 2, 100_003)
             for purpose in ("pass", "rank", "rank 0 resumed", "samples of round")]  # fmt: skip
    assert len(set(drawn)) == len(drawn) and all(0 <= x < 2**63 for x in drawn)
    # by hand: the first 8 bytes of sha256("7 pass 2"), without the last bit
    digest = hashlib.sha256(b"7 pass 2").hexdigest()
    assert seeds.derive(7, "pass", 2) == int(digest[:16], 16) // 2
    pools = [Run(seed=s, device="cpu").batch_indices(50, 50, 0).tolist() for s in (0, 1)]
    later = [Run(device="cpu").batch_indices(50, 50, step).tolist() for step in (1, 100_003)]
    assert len({tuple(x) for x in pools + later}) == 4


def test_the_description_says_what_ran(tmp_path):
    Run(tmp_path, seed=7, device="cpu", config=profile.PROFILES["quick"])
    described = json.loads((tmp_path / "run.json").read_text())
    assert (
        described["seed"] == 7
        and described["config"]["batch"] == 32
        and described["versions"]["torch"] == torch.__version__
    )


def test_a_run_without_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, (model, optimizer) = Run(device="cpu"), made()
    run.log(0, {"score": 1.0})
    run.save(1, model, optimizer)
    assert (
        not list(tmp_path.iterdir())
        and run.restore(model, optimizer) == 0
        and not run.checkpoint_due(0, 1)
    )


def test_checkpoints_come_every_so_often_and_at_the_end(tmp_path):
    run = Run(tmp_path, device="cpu", checkpoint_every=3)
    assert [step for step in range(8) if run.checkpoint_due(step, 8)] == [2, 5, 7]


def test_profiles_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("RLHF_PROFILE", raising=False)
    assert profile.profile().name == "laptop"
    monkeypatch.setenv("RLHF_PROFILE", "quick")
    assert profile.profile().name == "quick"
    monkeypatch.setenv("RLHF_PROFILE", "huge")
    with pytest.raises(ValueError, match="choose one of laptop, quick, gpu"):
        profile.profile()


def test_everything_comes_back_as_it_was(tmp_path):
    run, (model, optimizer), controller = Run(tmp_path, device="cpu"), made(value=2.0), Controller()
    torch.rand(9, generator=run.generator)
    controller.beta = 0.1 + 0.2  # needs all its digits
    run.log(0, {"score": 1 / 3})
    run.save(1, model, optimizer, controller)
    expected = torch.rand(4, generator=run.generator)
    run.log(1, {"score": 9.0})  # a step after the checkpoint, lost with the process

    again, (model2, optimizer2), controller2 = (
        Run(tmp_path, seed=99, device="cpu"),
        made(),
        Controller(),
    )
    assert again.restore(model2, optimizer2, controller2) == 1
    assert torch.equal(model2.weight, model.weight) and torch.equal(model2.bias, model.bias)
    for mine, theirs in zip(
        optimizer.state_dict()["state"].values(), optimizer2.state_dict()["state"].values()
    ):
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert controller2.beta == 0.1 + 0.2
    assert torch.equal(torch.rand(4, generator=again.generator), expected)
    assert again.metrics() == [{"step": 0, "score": 1 / 3}]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_what_a_gpu_began_goes_on_on_a_cpu_with_a_seed_that_was_not_in_use(tmp_path):
    run, (model, optimizer) = Run(tmp_path, seed=7, device="cpu"), made(value=2.0)
    run.save(3, model, optimizer)
    file = tmp_path / "checkpoint" / "state.safetensors"
    # as long as CUDA's
    save_file(load_file(file) | {"generator": torch.zeros(1, 16, dtype=torch.uint8)}, file)
    again, (model2, optimizer2) = Run(tmp_path, seed=7, device="cpu"), made()
    assert again.restore(model2, optimizer2) == 3 and torch.equal(model2.weight, model.weight)
    assert not torch.equal(
        torch.rand(4, generator=again.generator),
        torch.rand(4, generator=Run(seed=7, device="cpu").generator),
    )
    in_use = {seeds.derive(7, "rank", rank) for rank in range(100)}
    assert again.generator.initial_seed() not in in_use


def test_the_restored_optimizer_goes_on_as_the_old_one(tmp_path):
    model, optimizer = made()
    Run(tmp_path, device="cpu").save(1, model, optimizer)
    model2, optimizer2 = made(value=5.0)
    Run(tmp_path, device="cpu").restore(model2, optimizer2)
    for m, o in ((model, optimizer), (model2, optimizer2)):
        o.zero_grad()
        m(torch.tensor([[1.0, -2.0, 0.5]])).square().sum().backward()
        o.step()
    assert torch.equal(model.weight, model2.weight) and torch.equal(model.bias, model2.bias)


def test_metrics_of_a_run_stopped_before_its_first_checkpoint_are_dropped(tmp_path):
    Run(tmp_path, device="cpu").log(0, {"score": 1.0})
    run, (model, optimizer) = Run(tmp_path, device="cpu"), made()
    assert run.restore(model, optimizer) == 0
    run.log(0, {"score": 2.0})
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_the_checkpoint_of_another_model_is_refused_and_spoils_nothing(tmp_path):
    run, (other, optimizer) = Run(tmp_path, device="cpu"), made(width=4)
    run.save(1, other, optimizer)
    model, optimizer = made(width=3, value=5.0)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match="belongs to another model"):
        Run(tmp_path, device="cpu").restore(model, optimizer)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("content, fault", [
    ('{"seed": ', "Expecting value"), ("", "Expecting value"),
    ("[]", "it holds a list, not a dict"), ("{}", "it has no seed"),
    (b"\xff\xfe", "can't decode byte"),
])  # fmt: skip
def test_a_damaged_description_is_named(tmp_path, content, fault):
    """It said "Expecting value" without the name of a file, or was a KeyError or TypeError."""
    (tmp_path / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(
        ValueError,
        match=f"run.json in .* cannot be read .*{fault}.*move that file away, or restore it",
    ):
        Run(tmp_path, device="cpu").record_settings(labels=1)


def damage(folder, change):
    """Save a checkpoint of two steps there and change its state: a dict of what to put in, a text
    instead of it, or a key to drop."""
    run, (model, optimizer) = Run(folder, device="cpu"), made(value=2.0)
    for step in range(2):
        run.log(step, {"score": 0.5})
    run.save(2, model, optimizer, Controller())
    file = folder / "checkpoint" / "state.json"
    state = json.loads(file.read_text())
    whole = {k: v for k, v in state.items() if k != change} | (
        change if isinstance(change, dict) else {}
    )
    file.write_text(
        change if isinstance(change, str) and change not in state else json.dumps(whole)
    )


def refused(folder, match, way_out="remove that folder to start again, or restore it from a copy"):
    """Demand that a checkpoint is refused, and that the model is as it was."""
    model, optimizer = made(value=5.0)
    before = model.weight.detach().clone()
    with pytest.raises(ValueError, match=f"{match}.*{way_out}"):
        Run(folder, device="cpu").restore(model, optimizer, Controller())
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("change, fault", [
    ('{"steps_done"', "Expecting ':' delimiter"), ("", "Expecting value"),
    ("[2]", "it holds a list, not a dict"), ("steps_done", "it has no steps_done"),
    ("beta", "it has no beta"), ("metrics_bytes", "it has no metrics_bytes"),
    ("param_groups", "it has no param_groups"),
    ("optimizer_tensors", "it has no optimizer_tensors"),
])  # fmt: skip
def test_a_damaged_state_is_named(tmp_path, change, fault):
    """It said "Expecting ':' delimiter" without the name of a file, or was a bare KeyError."""
    damage(tmp_path, change)
    refused(tmp_path, f"state.json in {tmp_path}/checkpoint cannot be read .*{fault}")


@pytest.mark.parametrize("change, fault", [
    ({"steps_done": -3}, "steps_done is -3"), ({"steps_done": "2"}, "steps_done is '2'"),
    ({"steps_done": 2.0}, "steps_done is 2.0"),
    ({"metrics_bytes": -1}, "metrics_bytes is -1"), ({"metrics_bytes": None}, "is None"),
])  # fmt: skip
def test_a_state_that_cannot_be_is_refused(tmp_path, change, fault):
    """Training went on from step -3 without a word."""
    damage(tmp_path, change)
    refused(tmp_path, fault)


@pytest.mark.parametrize("change", [{"steps_done": 50}, {"steps_done": 1}, {"metrics_bytes": 27}])
def test_metrics_of_another_step_than_the_checkpoints_are_refused(tmp_path, change):
    """Training went on from a step that was never done, without a word."""
    damage(tmp_path, change)
    step = change.get("steps_done", 2) - 1
    refused(tmp_path, f"do not end with step {step}, the last .*", "restore the file from a copy")


@pytest.mark.parametrize("keep", [None, 0, 40])
def test_a_metrics_file_that_lost_lines_of_the_checkpoint_is_refused(tmp_path, keep):
    damage(tmp_path, {})
    file = tmp_path / "metrics.jsonl"
    if keep is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:keep])
    fault = f"metrics.jsonl has {keep or 0} bytes, but the checkpoint .* written after 52: "
    refused(tmp_path, fault, "restore the file from a copy, or remove the checkpoint")


def test_a_checkpoint_does_not_hold_the_metrics_again(tmp_path):
    """Every checkpoint rewrote all lines so far: 31,250 steps would have written some 10 GB."""
    run, (model, optimizer) = Run(tmp_path, device="cpu"), made()
    sizes = []
    for step in range(200):
        run.log(step, {"score": 0.5})
        if step in (99, 199):
            run.save(step + 1, model, optimizer)
            folder = tmp_path / "checkpoint"
            sizes.append(sum(file.stat().st_size for file in folder.iterdir()))
            state = json.loads((folder / "state.json").read_text())
            assert state["metrics_bytes"] == (tmp_path / "metrics.jsonl").stat().st_size
    assert sizes[1] - sizes[0] < 10  # a few digits
    before = (tmp_path / "metrics.jsonl").stat().st_ino
    assert Run(tmp_path, device="cpu").restore(model, optimizer) == 200
    assert (tmp_path / "metrics.jsonl").stat().st_ino == before  # cut, not rewritten


@pytest.mark.parametrize("gone, fault", [
    ("generator", "it has no generator"),
    ("optimizer.1.", "it has 3 tensors of the optimizer, and 6 were written"),
    ("optimizer.0.exp_avg_sq", "it has 5 tensors of the optimizer"),
])  # fmt: skip
def test_tensors_that_are_not_all_there_are_refused(tmp_path, gone, fault):
    """Without the generator it was a KeyError; with the moments of some weights only, training went
    on with half an optimizer."""
    damage(tmp_path, {})
    file = tmp_path / "checkpoint" / "state.safetensors"
    save_file({name: t for name, t in load_file(file).items() if not name.startswith(gone)}, file)
    refused(tmp_path, f"state.safetensors in .* cannot be read .*{fault}")


def test_no_moments_at_all_and_weights_that_got_no_gradient_go_on(tmp_path):
    """Notebook 06 takes the moments away to show what that does; an expert that no token went to
    has none."""
    damage(tmp_path / "none", {})
    file = tmp_path / "none" / "checkpoint" / "state.safetensors"
    save_file(
        {name: t for name, t in load_file(file).items() if not name.startswith("optimizer.")}, file
    )
    model = nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters())
    model.bias.sum().backward()  # nothing for the weight
    optimizer.step()
    Run(tmp_path / "unused", device="cpu").save(2, model, optimizer)
    for name in ("none", "unused"):
        assert Run(tmp_path / name, device="cpu").restore(*made()) == 2


def kill_at(monkeypatch, moment, how):
    """Kill the process at file operation number `moment`: before it, halfway through it, or after
    it."""
    count = 0

    def dying(operation, halfway):
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count != moment:
                return operation(*args, **kwargs)
            if how == "after":
                operation(*args, **kwargs)
            elif how == "halfway":
                halfway(*args)
            raise Killed

        return call

    def half_removed(folder, *_):
        for file in (
            sorted(Path(folder).iterdir(), reverse=True)[:1] if Path(folder).exists() else []
        ):
            file.unlink()  # state.safetensors goes, state.json stays

    monkeypatch.setattr(
        checkpoints,
        "save_file",
        dying(checkpoints.save_file, lambda _, path: Path(path).write_bytes(b"half")),
    )
    monkeypatch.setattr(
        files, "write_json", dying(files.write_json, lambda path, _: Path(path).write_text("{"))
    )
    monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree, half_removed))
    monkeypatch.setattr(Path, "rename", dying(Path.rename, lambda *_: None))
    monkeypatch.setattr(Path, "mkdir", dying(Path.mkdir, lambda *_: None))


def save_until_killed(folder, steps_done, moment, how):
    """Save once in the folder; returns whether the save got through."""
    run, (model, optimizer) = Run(folder, device="cpu"), made(value=float(steps_done))
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, moment, how)
        try:
            run.save(steps_done, model, optimizer)
        except Killed:
            return False
    return True


@pytest.mark.parametrize("how", ["before", "halfway", "after"])
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint_and_so_does_a_second_kill(
    tmp_path, how
):
    moment, survived = 0, False
    while not survived:
        moment, second, survived_second = moment + 1, 0, False
        while not survived_second:
            second += 1
            folder = tmp_path / f"{moment}-{second}"
            assert save_until_killed(folder, 1, 0, how)
            survived = save_until_killed(folder, 2, moment, how)
            survived_second = save_until_killed(folder, 3, second, how)
            model, optimizer = made()
            found = Run(folder, device="cpu").restore(model, optimizer)
            assert found in ((3,) if survived_second else (2, 3) if survived else (1, 2, 3)), (
                moment,
                second,
            )
            assert torch.equal(model.weight, made(value=float(found))[0].weight), (moment, second)
    assert moment > 5  # the loop did meet the file operations


def train(folder, change=""):
    policy = models.tiny_policy(vocabulary=64, width=64, seed=change == "model")
    policy.precision = "bf16" if change == "precision" else "fp32"
    tokens = torch.randint(
        64,
        (20 if change == "pool" else 40, 4),
        generator=torch.Generator().manual_seed(int(change == "texts")),
    )
    config = ppo.PPOConfig(
        episodes=8 * 24, batch=8, minibatches=1, lr=1e-3, kl_target=0.5, kl_horizon=100
    )
    run = Run(
        folder, seed=8 if change == "seed" else 7, device="cpu", checkpoint_every=1, quiet=True
    )
    task = Task("toy", "none", 4, 5, ".", 0)
    scored_by = "another model" if change == "reward" else ""
    ppo.tune(
        policy,
        lambda r: (r.responses % 2).float().mean(-1),
        Queries(tokens, tokens >= 0),
        task,
        config,
        run,
        scored_by=scored_by,
    )


@pytest.mark.skipif(
    sys.platform != "linux", reason="needs a fork of a process that has torch in memory"
)
def test_a_run_that_is_killed_again_and_again_ends_bit_for_bit_as_if_it_had_not_been(tmp_path):
    """Real processes and a real SIGKILL; with a checkpoint after each step, many of them fall into
    its writing."""
    train(tmp_path / "straight")
    kills, stopped = 0, tmp_path / "stopped"
    for wanted in (2, 8, 14, 20):  # killed as soon as so many steps have been logged
        process = multiprocessing.get_context("fork").Process(target=train, args=(stopped,))
        process.start()
        while process.is_alive():
            if (stopped / "metrics.jsonl").exists() and (
                stopped / "metrics.jsonl"
            ).read_text().count("\n") >= wanted:
                process.kill()
                break
            time.sleep(0.001)
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    train(stopped)
    assert kills >= 3
    for name in ("metrics.jsonl", "checkpoint/state.json", "checkpoint/state.safetensors"):
        assert (stopped / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_artifacts_are_your_own_first_then_the_recorded_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "own"))
    monkeypatch.setattr(profile, "RECORDED", tmp_path / "recorded")
    with pytest.raises(FileNotFoundError, match="run the notebook that makes it"):
        profile.artifact("labels")
    (tmp_path / "recorded" / "labels").mkdir(parents=True)
    assert (
        profile.artifact("labels") == tmp_path / "recorded" / "labels"
        and "simulated" in capsys.readouterr().out
    )
    (tmp_path / "own" / "labels").mkdir(parents=True)
    assert profile.artifact("labels") == tmp_path / "own" / "labels"
    assert "your own labels: nothing says how it was made" in capsys.readouterr().out


def test_a_recorded_policy_is_judged_by_the_reward_model_that_paid_it(tmp_path, monkeypatch):
    """A student's own reward model, another fit with another unit, once judged the recorded
    policy."""
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path / "own"))
    monkeypatch.setattr(profile, "RECORDED", recorded := tmp_path / "recorded")
    for place in (recorded / "policy", recorded / "reward", tmp_path / "own" / "reward"):
        place.mkdir(parents=True)
    assert profile.artifact("reward") == tmp_path / "own" / "reward"
    assert profile.beside(profile.artifact("policy"), "reward") == recorded / "reward"
    (tmp_path / "own" / "policy").mkdir()
    assert profile.beside(profile.artifact("policy"), "reward") == tmp_path / "own" / "reward"


def test_artifacts_say_what_they_were_made_from(tmp_path, monkeypatch, capsys):
    """ "Using your own reward_sentiment" was said of a model fitted on simulated labels only."""
    monkeypatch.setenv("RLHF_RUNS", str(tmp_path))
    monkeypatch.setenv("RLHF_PROFILE", "quick")
    (tmp_path / "reward_sentiment").mkdir()
    made = "fitted in notebook 03 on 256 simulated labels and 0 of yours"
    profile.record("reward_sentiment", made)
    profile.record("policy_sentiment", "tuned in notebook 05")  # keeps the first
    profile.artifact("reward_sentiment")
    assert capsys.readouterr().out == f"Using your own reward_sentiment: {made}, profile quick.\n"
    monkeypatch.setenv("RLHF_PROFILE", "laptop")
    profile.artifact("reward_sentiment")
    said = capsys.readouterr().out
    assert f"{made}, profile quick." in said and "WARNING: this is profile laptop" in said


@contextmanager
def disk_full(resource, size):
    """Let no file grow past `size` bytes: the write itself fails, as on a full disk."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_a_full_disk_loses_no_checkpoint_and_says_so(tmp_path):
    resource = pytest.importorskip("resource")
    run, (model, optimizer) = Run(tmp_path, device="cpu"), made(value=1.0)
    run.save(1, model, optimizer)
    larger, larger_optimizer = made(width=400, value=2.0)
    with (
        disk_full(resource, 300),
        pytest.raises(OSError, match="step 2 could not be written.*disk full.*run again"),
    ):
        run.save(2, larger, larger_optimizer)
    model, optimizer = made()
    assert Run(tmp_path, device="cpu").restore(model, optimizer) == 1
    assert torch.equal(model.weight, made(value=1.0)[0].weight)
    assert not (tmp_path / "checkpoint.new").exists()


def test_every_line_goes_to_the_listener_and_to_tensorboard(tmp_path, monkeypatch):
    written, heard = [], []

    class Writer:
        def __init__(self, folder):
            assert folder == str(tmp_path / "tensorboard")

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            written.append("flushed")

    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer)
    )
    run = Run(tmp_path, device="cpu", tensorboard=True, on_log=heard.append)
    run.log(3, {"score": 0.5, "kl_nats_per_response": 2.0})
    assert written == [("score", 0.5, 3), ("kl_nats_per_response", 2.0, 3), "flushed"]
    assert heard == [{"step": 3, "score": 0.5, "kl_nats_per_response": 2.0}]


def test_tensorboard_without_the_package_or_a_folder_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        Run(tmp_path, device="cpu", tensorboard=True)
    monkeypatch.setitem(
        sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=None)
    )
    with pytest.raises(ValueError, match="give the run a folder"):
        Run(device="cpu", tensorboard=True)


def test_training_writes_its_settings_into_the_description_and_other_settings_are_not_mixed_in(
    tmp_path,
):
    settings = profile.PROFILES["quick"]
    run, (model, optimizer) = Run(tmp_path, seed=7, device="cpu"), made()
    run.record_settings(ppo=settings, labels=5)
    run.record_settings(
        ppo=settings, labels=6
    )  # nothing has been trained yet: the last word counts
    described = json.loads((tmp_path / "run.json").read_text())
    assert described["seed"] == 7 and described["settings"] == {
        "ppo": dataclasses.asdict(settings),
        "labels": 6,
    }
    run.save(1, model, optimizer)
    Run(tmp_path, seed=7, device="cpu").record_settings(ppo=settings, labels=6)
    with pytest.raises(
        ValueError, match="other settings .ppo.batch is 32 there and 64 now.*another folder"
    ):
        Run(tmp_path, seed=7, device="cpu").record_settings(
            ppo=dataclasses.replace(settings, batch=64), labels=6
        )
    # once a list of 20 settings
    with pytest.raises(
        ValueError, match="that was PPO, this is the fit of a reward model.*another folder"
    ):
        Run(tmp_path, seed=7, device="cpu").record_settings(reward={"lr": 0.1}, labels=6)
    with pytest.raises(
        ValueError, match="other settings .seed is 7 there and 8 now.*another folder"
    ):
        Run(tmp_path, seed=8, device="cpu").record_settings(ppo=settings, labels=6)
    assert json.loads((tmp_path / "run.json").read_text()) == described
    Run(device="cpu").record_settings(ppo=settings)  # without a folder nothing is written


def test_a_finished_run_says_that_it_did_nothing(tmp_path, capsys):
    assert (
        list(Run(tmp_path, device="cpu").progress(2, 3, "PPO")) == [2]
        and "nothing to do" not in capsys.readouterr().out
    )
    assert list(Run(tmp_path, device="cpu").progress(3, 3, "PPO")) == []
    assert (
        capsys.readouterr().out
        == f"PPO: the run in {tmp_path} has already finished; nothing to do.\n"
    )


def test_before_the_first_checkpoint_another_seed_is_the_one_described(tmp_path):
    Run(tmp_path, seed=7, device="cpu").record_settings(labels=6)
    Run(tmp_path, seed=8, device="cpu").record_settings(labels=6)
    assert json.loads((tmp_path / "run.json").read_text())["seed"] == 8


@pytest.mark.parametrize("change", ["seed", "pool", "texts", "precision", "model", "reward"])
def test_a_run_does_not_go_on_with_another_seed_pool_precision_or_model(tmp_path, change):
    train(tmp_path)
    said = {"seed": "seed is 7 there and 8 now", "pool": "prompts is 40 there and 20 now",
            "texts": "prompts_digest is",
            "reward": "reward_model is  there and another model now"}  # fmt: skip
    named = said.get(change, "model is a model .* there and a model")
    with pytest.raises(ValueError, match=f"holds a run with other settings .{named}"):
        train(tmp_path, change)
    train(tmp_path)  # the old settings do go on


def test_the_description_names_the_base_model_by_its_folder_and_weights(tmp_path):
    models.tiny_policy(vocabulary=64, width=64).save(tmp_path / "little")
    policy = models.Policy.load(tmp_path / "little")
    before = models.fingerprint(policy)
    assert before.startswith("little ") and before.endswith(" in fp32")
    assert models.fingerprint(models.Policy.load(tmp_path / "little")) == before
    with torch.no_grad():
        policy.value_head.bias += 1
    assert models.fingerprint(policy) != before


def test_a_full_disk_while_the_description_is_written_leaves_the_old_one_and_says_what_to_do(
    tmp_path,
):
    resource = pytest.importorskip("resource")
    with (
        disk_full(resource, 20),
        pytest.raises(OSError, match="run.json could not be written.*disk full.*run again"),
    ):
        Run(tmp_path / "new", device="cpu")
    Run(tmp_path / "new", device="cpu").record_settings(
        labels=1
    )  # nothing half written is in the way
    whole = (tmp_path / "new" / "run.json").read_bytes()
    with disk_full(resource, 20), pytest.raises(OSError, match="run.json could not be written"):
        Run(tmp_path / "new", device="cpu").record_settings(labels=2)
    assert (tmp_path / "new" / "run.json").read_bytes() == whole


def test_a_full_disk_while_a_line_is_logged_says_so_and_the_run_goes_on_from_its_checkpoint(
    tmp_path,
):
    resource = pytest.importorskip("resource")
    run, (model, optimizer) = Run(tmp_path, device="cpu"), made(value=1.0)
    run.log(0, {"score": 1.0})
    run.save(1, model, optimizer)
    with (
        disk_full(resource, 30),
        pytest.raises(OSError, match="line of step 1 could not be written.*disk full.*run again"),
    ):
        run.log(1, {"score": 2.0})
    again = Run(tmp_path, device="cpu")
    assert again.restore(*made()) == 1
    again.log(1, {"score": 2.0})
    assert [
        json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ] == [0, 1]


def test_the_description_names_the_commit_where_there_is_one(tmp_path, monkeypatch):
    def git(*words):
        return subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x", *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    monkeypatch.setattr(runs, "ROOT", tmp_path)
    assert runs.git_revision() is None
    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    commit = git("rev-parse", "--short=12", "HEAD")
    assert runs.git_revision() == commit
    (tmp_path / "file").write_text("two")
    assert runs.git_revision() == commit + "+"
