"""The same prompts while a policy is tuned: same numbers, another policy, another text; escaped."""

import pytest
import torch

from rlhf_helpers import sampling, tasks
from rlhf_helpers.course import live
from rlhf_helpers.course.snapshots import Snapshots
from rlhf_helpers.runtime.runs import Run


@pytest.fixture
def taken(policy, task, ragged):
    return Snapshots(policy, task, ragged, seed=3)


def test_they_are_samples_of_the_policy_as_it_is_and_change_with_it_alone(
    taken, policy, task, ragged
):
    before = taken.take(0)
    generator = torch.Generator().manual_seed(3)
    rollout = sampling.sample(policy, ragged, task.response_length, task.temperature, generator)
    assert before == tasks.texts(task, rollout.responses, policy.tokenizer)
    assert taken.take(1) == before  # the same random numbers
    with torch.no_grad():
        policy.lm.lm_head.weight.mul_(-1)
    assert taken.take(2) != before and taken.taken[0] == before


def test_the_first_the_last_and_two_between_are_shown(taken):
    taken.take(0)
    assert taken.chosen() == [0]
    for step in (10, 20, 30, 40, 50, 60):
        taken.taken[step] = taken.taken[0]
    assert taken.chosen() == [0, 20, 40, 60]


def test_texts_are_escaped_and_named_by_their_steps(taken):
    taken.prompts = ["<b>x", "b", "c", "d"]
    taken.taken = {0: ["<img src=x>", "1", "2", "3"], 1200: ["e", "f", "g", "h"]}
    bundle = taken.bundle()
    page = bundle["text/html"]
    assert "<img" not in page and "&lt;img src=x&gt;" in page and "<b>" not in page
    assert "before" in page and "after step 1,200" in page
    assert bundle["text/plain"].startswith("the prompt: ... <b>x\nbefore: <img src=x>\nafter")


def test_the_live_view_writes_ten_times_and_training_goes_on_if_it_cannot(taken, capsys):
    run, shown = Run(quiet=True), []
    view = live.LiveView(run, 40, show=lambda *_: None)
    view.texts, view.show_texts = taken, lambda bundle, _: shown.append(bundle["text/plain"])
    run.on_log = view
    for step in range(20):
        run.log(step, {"score": 0.0})
    assert sorted(taken.taken) == [4, 8, 12, 16, 20] and len(shown) == 5

    def broken(_):
        raise RuntimeError("no memory")

    taken.take = broken
    for step in range(20, 40):
        run.log(step, {"score": 0.0})
    said = capsys.readouterr().err
    assert said.count("No more sample texts (RuntimeError: no memory); the training goes on") == 1
