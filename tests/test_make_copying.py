"""The experiment on summaries that copy: rows by hand, and the whole command on a random model of a
few thousand weights."""

import dataclasses
import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "data"))

import copying_parts  # noqa: E402
import copying_rows  # noqa: E402
import copying_verdicts  # noqa: E402
import jobs  # noqa: E402
import make_copying  # noqa: E402

from rlhf_helpers import models, presets, tasks  # noqa: E402
from rlhf_helpers.course import profile  # noqa: E402
from rlhf_helpers.summary_labelers import OURSELVES, SummaryLabeler  # noqa: E402


class Told(NamedTuple):
    name: str
    start: int
    end: int
    true: bool


def facts(source, summary):
    """Cooks are true, bakers are false."""
    words = (("who", "cook", True), ("what", "baker", False))
    return [
        Told(n, summary.index(w), summary.index(w) + len(w), t) for n, w, t in words if w in summary
    ]


PLAIN = "On Monday the cook lost a goat near the mill. Nobody saw it."
WORDY = "What a long and very sad winter we have had. The cook lost her goat."


def test_a_row_by_hand():
    sources = [PLAIN, PLAIN, WORDY, WORDY]
    texts = [
        " On Monday the cook lost a goat near the mill.",  # copies the beginning
        " The baker and the cook cried.",  # one fact true, one false
        " What a long and very sad winter we have had.",  # copies the preamble, states nothing
        " ...",  # nothing to measure
    ]
    base = [" The cook cried.", " The cook cried.", " The cook cried.", " ..."]
    references = [" On Monday the cook lost a goat near the mill.", " A goat.", " Nothing.", " No."]
    judge = SummaryLabeler("ourselves", facts, dataclasses.replace(OURSELVES, temperature=0))
    row = copying_rows.row_of(tasks.TLDR, sources, texts, references, base, [judge, judge])
    assert (row["summaries"], row["empty"]) == (3, 1)
    assert row["accurate"][0] == pytest.approx(1 / 3, abs=1e-4) and row["facts_told"] == 0.6667
    assert row["copies_beginning"][0] == 0.5 and row["copies_preamble"][0] == 1
    assert row["copied_sentences"][0] == pytest.approx(2 / 3, abs=1e-4)
    assert row["words"][0] == pytest.approx((10 + 6 + 10) / 3, abs=1e-4)
    assert row["wins_ourselves"][0] == 0.125  # all lost, one tie of four
    assert row["judges_agree"] == 1  # with itself
    # the first is its reference; the third shares "a" with nothing, the fourth has no words
    assert row["rouge1"] == row["rougeL"] == row["rouge2"] == 0.25


def test_rouge_by_hand():
    """Shared words: the, cook, a, goat; pairs: the cook; in order: the cook goat."""
    found = copying_rows.rouge(["The cook saw a goat"], ["the cook lost her goat, a"])
    precision, recall = 4 / 5, 4 / 6
    assert found["rouge1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-4)
    assert found["rouge2"] == pytest.approx(2 * (1 / 4) * (1 / 5) / (1 / 4 + 1 / 5), abs=1e-4)
    assert found["rougeL"] == pytest.approx(2 * (3 / 5) * (3 / 6) / (3 / 5 + 3 / 6), abs=1e-4)


def test_what_is_not_a_number_is_null_in_the_record():
    """A single summary that copies anything had an interval of NaN, which is no JSON, and equals
    nothing, not even itself."""
    judge = SummaryLabeler("ourselves", facts, OURSELVES)
    row = copying_rows.row_of(
        tasks.TLDR, [PLAIN], [" All things end."], [" A."], [" No."], [judge] * 2
    )
    assert row["words"] == [3, None] and "copied_from" not in row
    json.dumps(row, allow_nan=False)


# ---- verdicts ------------------------------------------------------------------------------------


def test_the_interval_of_three_seeds_by_hand():
    """Mean 2, deviation 1; t of two degrees of freedom is 4.3027 (any table)."""
    low, high = copying_verdicts.interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4)
    assert copying_verdicts.interval([5.0]) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.1, 0.9, "more"), (-0.9, -0.1, "less"), (-0.4, 0.3, "no difference seen"),
     (-0.4, 0.6, "inconclusive"), (0.1, 0.2, "more"), (-math.inf, math.inf, "inconclusive")],
)  # fmt: skip
def test_words_of_intervals(low, high, word):
    assert copying_verdicts.word(low, high, 0.5) == word


def test_claims_are_answered_seed_by_seed_from_the_rows_that_are_there():
    rows = [
        {"who": who, "seed": seed, "longest": [value + seed, 0.1], "accurate": [0.5, 0.4, 0.6]}
        for seed in (0, 1, 2)
        for who, value in (("tuned", 12.0), ("zero-shot", 9.0), ("supervised", 5.0))
    ]
    found = {(v["measure"], v["than"]): v for v in copying_verdicts.verdicts(rows)}
    assert set(found) == {
        ("longest", "zero-shot"), ("longest", "supervised"), ("accurate", "zero-shot")
    }  # fmt: skip
    assert found["longest", "zero-shot"]["differences"] == [3, 3, 3]
    assert found["longest", "zero-shot"]["verdict"] == "more"
    assert found["accurate", "zero-shot"]["verdict"] == "no difference seen"
    (alone,) = [v for v in copying_verdicts.verdicts(rows[:2]) if v["measure"] == "longest"]
    assert alone["verdict"] == "inconclusive" and alone["interval"] is None


# ---- the whole command ---------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The smallest experiment there is: a random model that shares the bundled tokenizer."""
    few = dataclasses.replace(presets.BUNDLED["tldr"], normalize_samples=16)
    monkeypatch.setitem(presets.BUNDLED, "tldr", few)
    tokenizer = models.load_tokenizer()
    models.tiny_policy(vocabulary=len(tokenizer), context=256).save(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return copying_parts.Settings(
        task="tldr", texts=64, labels=12, rounds=1, episodes=64, kl_coef=0.15, test=6,
        split="test", precision="fp32", instructions=("own-words",), base=str(tmp_path / "base"),
    )  # fmt: skip


def perform(settings, folder):
    folder.mkdir(exist_ok=True)
    s = dataclasses.replace(settings, folder=str(folder))
    with ThreadPoolExecutor(1) as pool:
        jobs.work(make_copying.jobs_of(s), s, 1, pool)
    return make_copying.table(s)


def without_seconds(made):
    for row in made["rows"]:
        row.pop("seconds", None)
    return made


def test_a_command_that_was_stopped_goes_on_and_ends_with_the_same_table(
    settings, tmp_path, monkeypatch, capsys
):
    straight = without_seconds(perform(settings, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        real, calls = copying_parts.ppo.tune, []
        patch.setattr(
            copying_parts.ppo,
            "tune",
            lambda *a: real(*a) if not calls.append(1) and len(calls) < 2 else 1 / 0,
        )
        with pytest.raises(ZeroDivisionError):
            perform(settings, tmp_path / "stopped")
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "stopped").glob("*.json")}
    assert without_seconds(perform(settings, tmp_path / "stopped")) == straight
    assert f"{len(done)} of 10 parts are there" in capsys.readouterr().out and len(done) >= 4
    assert all(path.stat().st_mtime_ns == made for path, made in done.items())  # nothing twice

    names = [row["who"] for row in straight["rows"]]
    assert names == [
        "reference", "lead", "zero-shot", "supervised", "tuned", "supervised + tuned",
        "tuned, own-words",
    ]  # fmt: skip
    rows = dict(zip(names, straight["rows"], strict=True))
    assert rows["reference"]["accurate"][0] == 1 and rows["lead"]["copied_sentences"][0] == 1
    assert rows["zero-shot"]["wins_ourselves"][0] == 0.5  # against itself
    assert math.isfinite(rows["tuned"]["kl_nats"]) and rows["tuned"]["collapsed"] == ""
    assert rows["tuned"]["sampled_tokens"] == 64 * 32
    assert rows["tuned"]["kl_nats_per_token"] == pytest.approx(rows["tuned"]["kl_nats"] / 32)
    assert 0.25 <= rows["tuned"]["fit"]["ceiling"] <= 1 and rows["reference"]["rougeL"] == 1
    assert {v["verdict"] for v in straight["verdicts"]} == {"inconclusive"}  # of one seed
    assert set(straight["samples"][0]) == {"source", *names}
    json.dumps(straight, allow_nan=False)


def test_online_labels_come_in_rounds(settings, tmp_path):
    s = dataclasses.replace(settings, rounds=2, episodes=128, instructions=())
    made = perform(s, tmp_path / "online")
    assert [row["who"] for row in made["rows"]][4:] == ["tuned", "supervised + tuned"]
    asked = sorted(p.name for p in (tmp_path / "online").glob("ppo-*/rounds/*.jsonl"))
    assert asked == ["00.jsonl", "00.jsonl", "01.jsonl", "01.jsonl"]
    assert not list((tmp_path / "online").glob("reward-*")) and made["agreement"] is None


def test_a_policy_that_collapsed_is_a_row_too(settings, tmp_path, monkeypatch):
    def collapse(*arguments):
        raise copying_parts.Collapsed("step 3: it says one thing")

    monkeypatch.setattr(copying_parts.ppo, "tune", collapse)
    made = perform(dataclasses.replace(settings, instructions=()), tmp_path / "parts")
    assert made["rows"][4]["collapsed"] == "step 3: it says one thing"


def test_every_part_is_made_before_it_is_needed_and_only_once(settings):
    s = dataclasses.replace(settings, labels=5_000, seeds=(0, 1), instructions=("highlighted",))
    made = []
    for job in make_copying.jobs_of(s):
        assert set(job.needs) <= set(made) and job.file not in made
        made.append(job.file)
    # 5,500 comparisons are six parts: of the base model, and of each supervised one
    assert sum(name.startswith("comparisons-base") for name in made) == 6
    assert sum(name.startswith("comparisons-supervised") for name in made) == 12
    assert sum(name.startswith("tuned") for name in made) == 6


def test_a_part_that_nobody_makes_is_named(tmp_path, settings):
    """It waited for ever."""
    s = dataclasses.replace(settings, folder=str(tmp_path))
    lost = jobs.Job("a.json", ("b.json",), 1.0, lambda s: {}, ())
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="needs: .*b.json"):
        jobs.work([lost], s, 1, pool)


def test_held_out_comparisons_have_prompts_of_their_own(settings, tmp_path, monkeypatch):
    """Each part drew from all prompts: four in ten of those held out were learned from too."""
    monkeypatch.setattr(copying_parts, "PART", 10)
    s = dataclasses.replace(settings, labels=32, folder=str(tmp_path))
    asked = []
    for part in range(len(copying_parts.comparison_files(s, "base", 0))):
        made = copying_parts.comparisons(s, "base", 0, part)["comparisons"]
        assert len(made) == 10
        asked += [prompt for prompt, *_ in made]
    assert len(set(asked)) == len(asked) == 40


def test_other_numbers_are_another_folder_and_more_seeds_are_not(settings, tmp_path):
    def folder(*words):
        given = ["--base", settings.base, "--folder", str(tmp_path), *words]
        return make_copying.settings_of(make_copying.parser().parse_args(given)).folder

    assert folder() == folder("--seeds", "0", "--instruction", "own-words")
    others = [folder("--labels", "7"), folder("--task", "cnndm"), folder("--quick")]
    assert len({folder(), *others}) == 4


def test_labelers_who_look_otherwise_are_another_folder(settings, tmp_path, monkeypatch):
    """The parts of a labeler with more effort were taken for those of one with less."""
    arguments = ["--base", settings.base, "--folder", str(tmp_path)]
    given = make_copying.parser().parse_args(arguments)
    before = make_copying.settings_of(given).folder
    eager = dataclasses.replace(make_copying.INSTRUCTIONS["accuracy"], effort=9.0)
    monkeypatch.setitem(make_copying.INSTRUCTIONS, "accuracy", eager)
    assert make_copying.settings_of(given).folder != before


def test_parts_load_what_they_start_from(settings, tmp_path):
    policy = models.Policy.load(settings.base)
    with torch.no_grad():
        policy.lm.lm_head.weight.zero_()
    s = dataclasses.replace(settings, folder=str(tmp_path))
    policy.save(tmp_path / "supervised-3")
    assert copying_parts.load(s, "supervised", 3).lm.lm_head.weight.abs().sum() == 0
    assert copying_parts.load(s, "base", 3).lm.lm_head.weight.abs().sum() > 0


# ---- the recorded tables -------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(profile.RECORDED.glob("copying_*.json")), ids=str)
def test_the_recorded_table_has_every_row_for_every_seed(path):
    made = json.loads(path.read_text())
    seeds = made["settings"]["seeds"]
    who = {row["who"] for row in made["rows"]}
    assert len(made["rows"]) == len(seeds) * len(who) and {"tuned", "supervised + tuned"} <= who
    assert made["verdicts"] == copying_verdicts.verdicts(made["rows"])
    json.dumps(made, allow_nan=False)
