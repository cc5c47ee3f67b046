"""Notebook 06's checks: the right answer passes, every named slip is named, an unsolved exercise is
no error."""

import math
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_helpers.course import checks
from rlhf_helpers.course.checks import plans
from rlhf_helpers.models import Policy
from rlhf_helpers.runtime import memory, pretrained

FUNCTIONS = [checks.nb06_bill, checks.nb06_whole_loss]
ALL = [*FUNCTIONS, checks.nb06_plan, checks.nb06_checkpoint]


# ---- the right answers are those of the real thing -----------------------------------------------


def shaped(vocabulary, positions, width, layers):
    return GPT2Config(
        vocab_size=vocabulary, n_positions=positions, n_embd=width, n_layer=layers, n_head=2
    )


def real_weights(v, p, d, n):
    return GPT2LMHeadModel(shaped(v, p, d, n)).num_parameters()


def weights(v, p, d, n):
    return (v + p) * d + n * (12 * d**2 + 13 * d) + 2 * d


def bill(policy, reward):
    return [4 * policy, 4 * policy, 4 * reward, 4 * policy, 8 * policy]


def whole(means, counts):
    return (means * counts).sum() / counts.sum()


def lora(layers, rank):
    return sum(rank * (i + o) for i, o in layers)


RIGHT = [
    (checks.nb06_bill, bill),
    (checks.nb06_bill, lambda p, r: torch.tensor(bill(p, r))),
    (checks.nb06_bill, lambda p, r: tuple(bill(p, r))),
    (checks.nb06_whole_loss, whole),
    (checks.nb06_whole_loss, lambda m, n: torch.cat([v.repeat(k) for v, k in zip(m, n)]).mean()),
    (
        checks.nb06_whole_loss,
        lambda m, n: sum(v * k for v, k in zip(m.tolist(), n.tolist())) / sum(n.tolist()),
    ),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check, answer, capsys):
    assert check(answer) is True
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    "kind", [list, tuple, torch.tensor, lambda lines: [float(x) for x in lines]]
)
def test_what_passes_as_a_bill_passes_in_the_next_cell(kind, capsys):
    """The notebook adds the lines up and holds them against the map's, to the last byte."""

    def answer(policy, reward):
        return kind(bill(policy, reward))

    class Map:
        PARTS, SIZES = memory.PARTS, {"774M": memory.SIZES["774M"]}

        @staticmethod
        def memory_map(config, **_):
            n = weights(config.vocab_size, config.n_positions, config.n_embd, config.n_layer)
            return dict(zip(memory.PARTS, bill(n + config.n_embd + 1, n + config.n_embd)))

    assert checks.nb06_bill(answer) is True
    source = Path(__file__).parents[1] / "notebooks/src/06_gpt2_on_a_gpu.py"
    (cell,) = [
        cell for cell in source.read_text().split("\n# %%") if "held = memory.PARTS[:5]" in cell
    ]
    exec(
        cell,
        {
            "memory": Map,
            "checks": checks,
            "GB": memory.GB,
            "my_bill": answer,
            "style_step": {},
            "counted": lambda c: weights(c.vocab_size, c.n_positions, c.n_embd, c.n_layer),
        },
    )
    assert "bit for bit" in capsys.readouterr().out


def test_the_bill_is_that_of_a_real_policy_and_reward_model():
    """The exercise's five numbers against the map, which another test holds against real models
    byte for byte."""
    config = shaped(50, 20, 8, 3)
    parts = memory.memory_map(config, batch=8, query=6, response=4)
    n = real_weights(50, 20, 8, 3)
    assert bill(n + 8 + 1, n + 8) == [parts[name] for name in memory.PARTS[:5]]


def test_loras_weights_are_those_that_a_real_policy_trains():
    policy = Policy(GPT2LMHeadModel(shaped(50, 20, 8, 3)))
    layers = [
        tuple(m.weight.shape)
        for m in policy.lm.base_model.modules()
        if isinstance(m, pretrained.LINEAR)
    ]
    small = Policy(GPT2LMHeadModel(shaped(50, 20, 8, 3)), lora=2)
    # and the value head
    assert sum(p.numel() for p in small.parameters() if p.requires_grad) == lora(layers, 2) + 8 + 1


# ---- slips ---------------------------------------------------------------------------------------


def bills(**changed):
    """The bill with some lines multiplied: what a student forgot or counted twice."""
    names = ("policy", "reference", "reward", "gradients", "optimizer")
    return lambda p, r: [line * changed.get(name, 1) for name, line in zip(names, bill(p, r))]


SLIPS = [
    (checks.nb06_bill, lambda p, r: [x // 2 for x in bill(p, r)], "bfloat16"),
    (checks.nb06_bill, lambda p, r: [x // 4 for x in bill(p, r)], "not bytes"),
    (checks.nb06_bill, lambda p, r: [x * 8 for x in bill(p, r)], "bits"),
    (checks.nb06_bill, lambda p, r: [x * 2 for x in bill(p, r)], "float64"),
    (checks.nb06_bill, lambda p, r: [x / 1e9 for x in bill(p, r)], "gigabytes"),
    (checks.nb06_bill, lambda p, r: [x / 1e6 for x in bill(p, r)], "megabytes"),
    (checks.nb06_bill, lambda p, r: [x / 2**30 for x in bill(p, r)], "GiB"),
    (checks.nb06_bill, lambda p, r: [x / 2**20 for x in bill(p, r)], "MiB"),
    (checks.nb06_bill, bills(optimizer=0.5), "TWO numbers"),
    (checks.nb06_bill, bills(optimizer=1.5), "lines of their own"),
    (checks.nb06_bill, bills(optimizer=2), "lines of their own"),
    (checks.nb06_bill, bills(gradients=0), "gradients are missing"),
    (checks.nb06_bill, bills(gradients=2), "ONE number"),
    (checks.nb06_bill, lambda p, r: [4 * p, 4 * p, 4 * r, 4 * (p + r), 8 * p],
     "reward model is not trained"),
    (checks.nb06_bill, lambda p, r: [4 * p, 4 * p, 4 * r, 4 * (2 * p + r), 8 * p],
     "only the policy is trained: neither"),
    (checks.nb06_bill, lambda p, r: [4 * p, 4 * p, 4 * r, 4 * p, 8 * (p + r)],
     "only its weights have moments"),
    (checks.nb06_bill, lambda p, r: [4 * p, 4 * p, 4 * r, 4 * (p + r), 8 * (p + r)],
     "reward model is not trained here: it has neither"),
    (checks.nb06_bill, lambda p, r: [4 * p, 4 * p, 4 * r, 8 * p, 16 * p],
     "reference is never trained"),
    (checks.nb06_bill, lambda p, r: [4 * p, 4 * p, 4 * r, 4 * (2 * p + r), 8 * (2 * p + r)],
     "has gradients and moments"),
    (checks.nb06_bill, bills(reference=0), "whole second copy"),
    (checks.nb06_bill, lambda p, r: bill(p, p), "second argument"),
    (checks.nb06_bill, lambda p, r: [*bill(p, r)[:3], 8 * p, 4 * p],
     "gradients and optimizer are swapped"),
    (checks.nb06_bill, lambda p, r: [4 * p, 4 * r, 4 * p, 4 * p, 8 * p],
     "reference and reward model are swapped"),
    (checks.nb06_bill, lambda p, r: sum(bill(p, r)), "added the parts up"),
    (checks.nb06_bill, lambda p, r: dict(enumerate(bill(p, r))),
     "return a list of the five numbers (policy, reference"),
    (checks.nb06_bill, lambda p, r: [4 * p, ..., ..., ..., ...],
     "return a list of the five numbers"),
    (checks.nb06_bill, lambda p, r: torch.tensor(bill(p, r)).float(), "float32 cannot hold"),
    (checks.nb06_bill, bills(gradients=3),
     "the line of the gradients: 4,000,012 expected, yours is 12,000,036."),
    (checks.nb06_bill, bills(reward=0, gradients=3),
     "the line of the reward model: 3,600,004 expected, yours is 0."),
    (checks.nb06_whole_loss, lambda m, n: m * n / n.sum(), "the parts: add them up."),
    (checks.nb06_whole_loss, lambda m, n: m * n, "add them up, and divide"),
    (checks.nb06_whole_loss, lambda m, n: m * n / n, "add them up, products and counts"),
    (checks.nb06_whole_loss, lambda m, n: (m * n).sum() / n, "add up the counts too"),
    (checks.nb06_whole_loss, lambda m, n: m.mean(), "mean of the means"),
    (checks.nb06_whole_loss, lambda m, n: m.sum(), "sum of the means"),
    (checks.nb06_whole_loss, lambda m, n: (m * n).sum(), "sum over all tokens"),
    (checks.nb06_whole_loss, lambda m, n: (m * n).mean(), "number of parts"),
    (checks.nb06_whole_loss, lambda m, n: (m / (n / n.sum())).sum(), "you divided"),
    (checks.nb06_whole_loss, lambda m, n: m.sum() / n.sum(), "must be multiplied"),
    (checks.nb06_whole_loss, lambda m, n: (m * n)[:-1].sum() / n.sum(), "last part"),
    (checks.nb06_whole_loss, lambda m, n: whole(m[:-1], n[:-1]), "last part"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "wrong", "word"), SLIPS)
def test_every_slip_is_named(check, wrong, word, capsys):
    assert check(wrong) is False
    said = capsys.readouterr().out
    assert said.startswith("Not yet: ") and word in said, said


@pytest.mark.parametrize("check", FUNCTIONS)
@pytest.mark.parametrize("stub", [None, ..., lambda *_: None, lambda *_: ...])
def test_unsolved_is_said_without_raising(check, stub, capsys):
    assert check(stub) is False
    assert "Not solved yet" in capsys.readouterr().out


@pytest.mark.parametrize("check", FUNCTIONS)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda *_: 1 / 0,
        lambda *_: "text",
        lambda *_: torch.zeros(2, 3),
        lambda: 0,
        lambda *_: object(),
        lambda *_: math.nan,
    ],
)
def test_nonsense_is_refused_without_raising(check, wrong, capsys):
    assert check(wrong) is False
    assert capsys.readouterr().out.startswith("Not yet: ")


# ---- the plan for one GPU ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plan",
    [
        {"precision": "bf16", "lora": 16, "micro_batch": 64},
        {"lora": 16, "micro_batch": 32},
        {"micro_batch": 8},  # nothing is changed but the rows
        {"checkpointing": True, "micro_batch": 32},
        {"checkpointing": True, "lora": 8, "micro_batch": 128},
    ],
)
def test_plans_that_fit(plan, capsys):
    """Their totals can be read off docs/launch.md (20.1 GB) or lie below one that can."""
    assert checks.nb06_plan(plan) is True
    assert "21.6 GB may be used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        ({"precision": "bf16", "checkpointing": True, "lora": 16, "micro_batch": 1}, "`precision`"),
        ({"precision": "bf16", "checkpointing": True, "micro_batch": 32}, "`precision`"),
        ({"checkpointing": True, "micro_batch": 8}, "`checkpointing`"),
        ({"lora": 4, "micro_batch": 8}, "`lora`"),
        ({"micro_batch": 2}, "so would 4 rows"),
        ({"checkpointing": True, "micro_batch": 16}, "so would 32 rows"),
    ],
)
def test_a_plan_that_changes_more_than_it_needs_is_not_right(plan, word, capsys):
    """The least change was asked for, and a plan that changed everything at once was called
    right."""
    assert checks.nb06_plan(plan) is False
    said = capsys.readouterr().out
    assert said.startswith("Not yet: it fits") and word in said


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        (None, "Not solved yet"),
        (..., "Not solved yet"),
        ({"micro_batch": ...}, "Not solved yet"),
        ("bf16", "a dictionary"),
        ({}, "of activations"),
        ({"micro_batch": 64}, "35.4 GB, but only 21.6 GB"),  # docs/launch.md
        ({"micro_batch": 64, "precision": "bf16"}, "32.2 GB"),  # docs/launch.md
        # docs/launch.md
        (
            {"micro_batch": 64, "precision": "bf16", "checkpointing": True},
            "3.5 GB for sampling: fewer rows",
        ),
        ({"micro_batch": 16, "precision": "bf16"}, "of activations"),
        ({"ranks": 8}, "there is one GPU"),
        ({"sharded": True}, "there is one GPU"),
        ({"batch": 64}, "'batch' is no option"),
        ({"precision": "int4"}, "takes 'fp32' or 'bf16'"),
        # a word is true, and the plan was called right
        ({"checkpointing": "no", "micro_batch": 16}, "takes True or False"),
        ({"micro_batch": 0}, "takes rows, 1 or more"),
        ({"micro_batch": 8.5}, "takes rows, 1 or more"),
        ({"lora": -4}, "takes a rank, 0 or more"),
    ],
)
def test_plans_that_do_not_fit_say_where_the_memory_goes(plan, word, capsys):
    assert checks.nb06_plan(plan) is False
    said = capsys.readouterr().out
    assert said.startswith("Not ") and word in said


@pytest.mark.parametrize("rows", [{"micro_batch": 8}, {"micro_batch": 32, "checkpointing": True}])
def test_bf16_saves_nothing_where_rows_are_few(rows):
    """So the notebook says of its exercise: copies of the weights in bf16 outweigh what is
    saved."""
    step = {"batch": 512, "query": 64, "response": 24, **rows}
    fp32, bf16 = (
        memory.memory_map(memory.SIZES["774M"], precision=precision, **step)["total"]
        for precision in ("fp32", "bf16")
    )
    assert bf16 > fp32


def test_at_64_rows_only_lora_fits():
    """So the exercise is one: with all of 774M's weights trained, no setting of the table leaves a
    tenth of 24 GB free."""
    for precision in ("fp32", "bf16"):
        for checkpointing in (False, True):
            assert (
                checks.nb06_plan(
                    {"precision": precision, "checkpointing": checkpointing, "micro_batch": 64}
                )
                is False
            )


# ---- what a checkpoint holds ---------------------------------------------------------------------


def test_the_five_things_of_a_checkpoint(capsys):
    assert checks.nb06_checkpoint({"weights", "moments", "beta", "generator", "steps done"}) is True
    assert checks.nb06_checkpoint(["steps done", "generator", "beta", "moments", "weights"]) is True
    assert capsys.readouterr().out.count("Right: ") == 2


@pytest.mark.parametrize("missing", list(plans.NEEDED))
def test_a_missing_thing_is_answered_with_what_would_happen_and_not_with_its_name(missing, capsys):
    assert checks.nb06_checkpoint(set(plans.NEEDED) - {missing}) is False
    said = capsys.readouterr().out
    assert "1 missing" in said and plans.NEEDED[missing] in said


@pytest.mark.parametrize("extra", list(plans.SPARE))
def test_a_thing_too_many_is_named_with_where_it_comes_from(extra, capsys):
    assert checks.nb06_checkpoint({*plans.NEEDED, extra}) is False
    said = capsys.readouterr().out
    assert repr(extra) in said and plans.SPARE[extra] in said


@pytest.mark.parametrize("unsolved", [None, ..., set(), {...}])
def test_an_unsolved_checkpoint_is_no_error(unsolved, capsys):
    assert checks.nb06_checkpoint(unsolved) is False
    assert "Not solved yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("chosen", "named"),
    [({"weights", "luck"}, "'luck'"), (["weights", 5], "5"), ([["weights"]], "['weights']")],
)
def test_an_unknown_thing_is_refused(chosen, named, capsys):
    assert checks.nb06_checkpoint(chosen) is False
    assert f"{named} is not on the list" in capsys.readouterr().out


@pytest.mark.parametrize("chosen", [5, "weights", "", {"weights": True}, True])
def test_what_is_no_set_or_list_of_names_is_refused(chosen, capsys):
    assert checks.nb06_checkpoint(chosen) is False
    said = capsys.readouterr().out
    assert f"a list of names, such as {{'weights', 'gradients'}}, not {chosen!r}." in said
