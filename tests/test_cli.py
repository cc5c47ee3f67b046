"""The command line: the whole road on a tiny model, help with examples, exit codes; the configs are
those of the notebooks."""

import dataclasses
import io
import json
import math
import re
import shlex
import shutil
import subprocess
import sys
import types

import datasets
import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, pipeline

from rlhf_helpers import cli, hub, models, presets, reward, sampling, tasks
from rlhf_helpers.cli import loading, options, training
from rlhf_helpers.labels import exchange, people
from rlhf_helpers.labels.store import LabelStore
from rlhf_helpers.records import Comparison, Label
from rlhf_helpers.runtime import bf16, files, guards, ranks

SHORT = "--ppo.batch 8 --ppo.minibatches 1 --ppo.epochs 1 --device cpu"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a tiny model and the bundled tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = models.load_tokenizer()
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=1024,
            n_embd=16,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=1,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def two_ranks():
    """What the first launcher's run on two ranks came to."""
    return {}


@pytest.fixture
def run(model, tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder; returns (exit code, what it printed, what it
    complained of)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLHF_HEADLESS", raising=False)
    # five seconds after each shuffled stream
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)

    def call(line, typed=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        words = shlex.split(line.replace("MODEL", str(model)))
        try:
            code = cli.main(words)
        except SystemExit as end:
            code = end.code
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def test_the_whole_road(run, tmp_path):
    code, said, _ = run("sample --model MODEL --count 12 --store labels.db --device cpu")
    assert code == 0 and said.count("\n  4  ") == 12 and "12 of 12 comparisons are new" in said
    assert run("sample --model MODEL --count 12 --store labels.db --device cpu")[1].endswith(
        "label --store labels.db\n"
    )
    # the same samples, added once
    assert len(LabelStore("labels.db").comparisons("sentiment")) == 12

    code, said, _ = run(
        "label --store labels.db --labeler ada", typed="1\n4\nt\nu\n2\n" + "3\n" * 20
    )
    labels = LabelStore("labels.db").labels("sentiment")
    assert (
        code == 0
        and len(labels) == 12
        and {x.labeler for x in labels} == {"ada"}
        and not any(x.simulated for x in labels)
    )

    code, said, _ = run("export --store labels.db --format pairs --out pairs.jsonl")
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert code == 0 and len(pairs) == 36 and {"prompt", "chosen", "rejected"} <= pairs[0].keys()

    code, said, _ = run("export --store labels.db --format store --out mine.jsonl")
    assert code == 0 and re.fullmatch(
        r"12 labels and \d+ other answers? by ada inside mine.jsonl, sha256 [0-9a-f]{12}\n", said
    )
    for form, size in (("csv", 12), ("openai", 12), ("dataset", 12)):
        code, said, _ = run(
            f"export --store labels.db --format {form} --out mine.{form} --model MODEL"
        )
        assert (
            code == 0
            and said == f"{size} records in mine.{form}.\n"
            and (tmp_path / f"mine.{form}").exists()
        )

    line = (
        "fit-reward --model MODEL --labels labels.db --out reward --config.batch 4 --held-out 0.25 "
        "--normalize-samples 8 --device cpu"
    )
    code, said, _ = run(line)
    assert (
        code == 0
        and re.search(r"Fitted on ([6-9]|1[01]) labels \(0 of all 12 simulated\)", said)
        and "chance is 25%" in said
    )

    line = f"tune --model MODEL --reward reward --out tuned --ppo.episodes 16 {SHORT} --prompts 16"
    code, said, _ = run(line)
    assert code == 0 and "the model is in tuned/model" in said
    before = (tmp_path / "tuned/model/model.safetensors").read_bytes()
    code, said, _ = run(line)
    assert code == 0 and "already finished; nothing to do" in said
    assert (tmp_path / "tuned/model/model.safetensors").read_bytes() == before

    code, said, _ = run("summarize-run tuned")
    assert (
        code == 0
        and re.search(r"^score +-?[\d.e-]+ +-?[\d.e-]+$", said, re.MULTILINE)
        and "kl_nats_per_response" in said
    )
    # a process that is killed, or writes right now, has written half a line
    with (tmp_path / "tuned/metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "sco')
    assert run("summarize-run tuned") == (0, said, "")
    code, said, _ = run("judge --model MODEL --tuned tuned --count 4 --device cpu")
    assert code == 0 and re.search(r"Tuned preferred by a simulated judge: .*\(.*n = 4\b.*\)", said)
    code, said, _ = run(
        "judge --model MODEL --tuned tuned --count 4 --by ada --device cpu", typed="1\n" * 4
    )
    assert code == 0 and re.search(r"Tuned preferred by ada: .*\(.*n = 4\b.*\)", said)


def test_copying_is_measured_in_a_file(run, tmp_path):
    (tmp_path / "s.jsonl").write_text('{"source": "A goat ate a hat.", "summary": "A goat ate."}')
    code, said, _ = run("measure-copying s.jsonl")
    assert code == 0 and "1 summaries in s.jsonl" in said
    assert re.search(r"^coverage +1\.00 ± nan$", said, re.M)
    assert re.search(r"^density +3\.00", said, re.M)


def test_the_other_methods_tune_too_and_dpo_reads_the_labels_itself(run, model, tmp_path):
    """Each says what it did, and does nothing a second time; equal scores move nothing in a group
    of answers, labels move DPO."""
    run("sample --model MODEL --count 8 --store labels.db --device cpu")
    run("label --store labels.db --labeler ada", typed="1\n" * 20)
    line = "fit-reward --model MODEL --labels labels.db --out reward --held-out 0 --device cpu"
    assert run(f"{line} --normalize-samples 8")[0] == 0
    reward = f"--reward reward --ppo.episodes 16 {SHORT} --ppo.answers 4 --prompts 8"
    for method, words in (
        ("rloo", reward), ("grpo", reward), ("dpo", "--labels labels.db --dpo.batch 4 --device cpu")
    ):  # fmt: skip
        line = f"tune --model MODEL --method {method} --out {method} {words}"
        code, said, err = run(line)
        assert code == 0 and f"the model is in {method}/model" in said, err
        assert ("Tuned on 8 labels" in said) == (method == "dpo")
        if method == "dpo":
            weights = (tmp_path / "dpo/model/model.safetensors").read_bytes()
            assert weights != (model / "model.safetensors").read_bytes()
        else:
            settings = json.loads((tmp_path / method / "run.json").read_text())
            assert settings["settings"]["algorithm"] == f"{method}_step"
        code, said, _ = run(line)
        assert code == 0 and "already finished; nothing to do" in said


@pytest.mark.parametrize("task, preset, columns", [
    ("sentiment", "released", ["text"]),
    ("descriptiveness", "paper", ["text"]),
    ("tldr", "paper", ["content", "summary"]),
    ("cnndm", "released", ["article", "highlights"]),
])  # fmt: skip
def test_the_papers_presets_run_from_local_copies_of_the_published_files(
    run, tmp_path, task, preset, columns
):
    """Texts in parquet and labels in the released JSON, as published; the preset's lengths, the
    batch cut down to a test's size."""
    lines = [
        "the boat came home at dusk .",
        "nobody on the quay knew why .",
        "she laughed , and he put the kettle on .",
    ]
    books = [f"{i} : {lines[i % 3]}" for i in range(1_920)]
    poems = ["\n".join(lines[(i + k) % 3] for k in range(9 + i)) for i in range(96)]
    preset_task = presets.get(task, preset).task
    (tmp_path / preset_task.dataset).mkdir()
    table = datasets.Dataset.from_dict(
        {name: books if name == "text" else poems for name in columns}
    )
    for split in ("train", "test") if hub.SOURCES[preset_task.dataset].has_test else ("train",):
        table.to_parquet(tmp_path / preset_task.dataset / f"{split}-00000-of-00001.parquet")
    tokenizer = models.load_tokenizer()
    records = []
    for i in range(40):
        texts_of = [lines[i % 3]] + [f" {word} {i}." for word in ("Good", "Bad", "Long", "Short")]
        ids = tokenizer(texts_of)["input_ids"]
        records.append(
            {"query": ids[0], **{f"sample{k}": ids[k + 1] for k in range(4)}, "best": i % 4}
        )
    file = tmp_path / "labels" / hub.LABEL_FILES[task]
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(records))

    shared = f"--model MODEL --task {task} --preset {preset} --data-dir . --device cpu"
    code, said, complaint = run(
        f"fit-reward {shared} --labels released --normalize-samples 8 --out fit"
    )
    assert code == 0 and "labels (0 of all 40 simulated)" in said, complaint
    code, said, complaint = run(
        f"tune {shared} --reward fit --prompts 16 --ppo.episodes 16 --ppo.batch 8 "
        "--ppo.minibatches 1 --out tuned"
    )
    assert code == 0 and "the model is in tuned/model" in said, complaint
    lines = [
        json.loads(line) for line in (tmp_path / "tuned/metrics.jsonl").read_text().splitlines()
    ]
    wanted = presets.get(task, preset).ppo
    assert len(lines) == 2 and (lines[0]["beta"], lines[0]["lr"]) == (wanted.kl_coef, wanted.lr)
    # knows nothing
    assert lines[0]["entropy_nats_per_response"] == pytest.approx(
        preset_task.response_length * math.log(3072), rel=0.02
    )
    code, said, complaint = run(f"judge {shared} --tuned tuned --count 1 --by ada", typed="1\n")
    assert code == 0 and "Tuned preferred by ada" in said, complaint


@pytest.mark.parametrize("launcher", [
    "-m torch.distributed.run --standalone --nproc-per-node 2",
    "-m accelerate.commands.launch --multi_gpu --num_processes 2",
])  # fmt: skip
def test_the_launchers_of_torch_and_accelerate_start_the_command_on_two_ranks(
    launcher, model, tmp_path, two_ranks, run
):
    models.RewardModel.from_policy(models.Policy.load(model), 0).save(tmp_path / "reward")
    line = (
        f"tune --model {model} --reward {tmp_path}/reward --ppo.episodes 32 --ppo.batch 16 "
        "--ppo.epochs 1 --prompts 16 --device cpu"
    )
    words = shlex.split(f"{launcher} -m rlhf_helpers {line} --out {tmp_path}/tuned")
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0 and done.stdout.count("the model is in") == 1, done.stderr[-3_000:]
    lines, weights = read_run(tmp_path / "tuned")
    assert [x["episodes"] for x in lines] == [16, 32]
    assert abs(lines[1]["kl_nats_per_response"]) > 1e-4  # it moved; an estimate may be negative
    assert run(f"{line} --out alone")[0] == 0
    first, alone = (
        lines[0]["entropy_nats_per_response"],
        read_run(tmp_path / "alone")[0][0]["entropy_nats_per_response"],
    )
    # half of the batch had another seed
    assert first == pytest.approx(alone, rel=0.02) and first != pytest.approx(alone, rel=1e-5)
    # the other launcher's: the same run, but for the number of threads
    known = two_ranks.setdefault("run", (lines, weights))
    for ours, theirs in zip(lines, known[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    assert all(
        torch.allclose(weight, known[1][name], atol=2e-5) for name, weight in weights.items()
    )


def read_run(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return lines, load_file(folder / "model/model.safetensors")


def test_the_folder_of_a_run_is_not_taken_for_another_reward_model_or_other_labels(
    run, model, tmp_path
):
    asked = [
        Comparison("sentiment", f"The harbour {word}.", (" A good day.", " A grim night."))
        for word in "abcdefgh"
    ]
    for choice in (0, 1):
        exchange.write(
            tmp_path / f"{choice}.csv", "csv", asked, [Label(c.id, "x", choice) for c in asked]
        )
    line = (
        "fit-reward --model MODEL --out fit0 --config.batch 4 --held-out 0 --normalize-samples 8 "
        "--device cpu --labels "
    )
    assert run(line + "0.csv")[0] == 0
    code, _, said = run(line + "1.csv")
    assert code == 1 and "fit0 holds a run with other settings (labels_digest is" in said
    assert run(line.replace("fit0", "fit1") + "1.csv")[0] == 0

    line = f"tune --model MODEL --out tuned --ppo.episodes 8 {SHORT} --prompts 8 --reward "
    assert run(line + "fit0")[0] == 0
    code, _, said = run(line + "fit1")
    assert code == 1 and "tuned holds a run with other settings (reward_model is" in said
    config = tmp_path / "fit0/model/config.json"
    settings = json.loads(config.read_text())
    # the same weights in another unit are another reward model
    for name in ("reward_gain", "reward_bias"):
        config.write_text(json.dumps(settings | {name: settings[name] + 0.5}))
        assert run(line + "fit0")[0] == 1
    config.write_text(json.dumps(settings))
    assert run(line + "fit0 --micro-batch 3")[0] == 0


def test_fit_reward_skips_faulty_records_if_told_to_and_names_those_too_long(run, tmp_path):
    """A label file with one bad line was refused whole, and a text too long was not named."""
    words = "abcdefgh"
    good = [
        {"prompt": f"The harbour {x}.", "chosen": " A good day.", "rejected": " A grim night."}
        for x in words
    ]
    long = good[0] | {"chosen": " good" * 2_000}
    equal = good[0] | {"rejected": good[0]["chosen"]}
    records = [*good[:2], long, {"prompt": "x\u202e"}, equal, *good[2:]]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    line = (
        "fit-reward --model MODEL --config.batch 4 --held-out 0 --normalize-samples 8 --device cpu "
        "--labels p.jsonl --format pairs"
    )
    code, _, complaint = run(line)
    assert code == 1 and "p.jsonl, line 3: query and longest option take 20" in complaint
    assert "but the model's context is 1024; nothing was read" in complaint
    assert "--skip-faulty, leaves it out" in complaint
    code, said, _ = run(line + " --skip-faulty")
    assert code == 0 and "2 faulty records were left out; the first: line 3: query and" in said
    assert "1 comparisons of equal texts were left out." in said and "Fitted on 8 labels" in said


def test_fit_reward_begins_and_ends_in_the_unit_of_the_models_own_samples(run, model, monkeypatch):
    run("sample --model MODEL --count 8 --store labels.db --device cpu")
    run("label --store labels.db --labeler ada", typed="1\n" * 8)
    real, seen = reward.fit, []

    # of the raw rewards of the texts on which the command normalises: gain is one over it
    def spread(fitted):
        policy, tokenizer = models.Policy.load(model), models.load_tokenizer(model)
        queries = tasks.queries(tasks.SENTIMENT, tokenizer, 8, seed=0)
        length, dice = tasks.SENTIMENT.response_length, torch.Generator().manual_seed(0)
        rollout = sampling.sample(policy, queries, length, 0.7, dice)
        text, mask = (
            torch.cat([queries.tokens, rollout.responses], 1),
            torch.cat([queries.mask, rollout.mask], 1),
        )
        with torch.no_grad():
            return ((fitted(text, mask) - fitted.bias) / fitted.gain).std(correction=0).item()

    def fit(fitted, *args):
        seen.append((fitted.gain.item(), 1 / spread(fitted)))
        lines = real(fitted, *args)
        seen.append(1 / spread(fitted))
        return lines

    monkeypatch.setattr(reward, "fit", fit)
    line = (
        "fit-reward --model MODEL --labels labels.db --out reward --config.batch 4 "
        "--config.lr 0.01 --normalize-samples 8 --device cpu"
    )
    assert run(line)[0] == 0
    (gain, before), after = seen
    assert gain == pytest.approx(before, rel=1e-3) and gain != pytest.approx(after, rel=1e-2)
    assert models.RewardModel.load("reward/model").gain.item() == pytest.approx(after, rel=1e-3)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_an_example_that_can_be_parsed(name, run):
    code, said, _ = run(f"{name} --help")
    assert code == 0
    example = re.search(r"For instance: `python -m rlhf_helpers (.+?)`", " ".join(said.split()))[1]
    command = cli.parse(shlex.split(example))
    assert type(command) is cli.COMMANDS[name][0]
    for field in dataclasses.fields(command):  # nothing without a word of explanation
        flag = "PATH" if field.name in ("folder", "file") else f"--{field.name.replace('_', '-')}"
        assert flag in said or f"{field.name} options" in said, field.name


def test_options_are_the_configs_of_the_notebooks_and_presets_fill_them():
    assert cli.parse(["tune"]).ppo == presets.KEPT and cli.parse(["tune"]).lora == 0
    command = cli.parse(
        shlex.split("tune --task tldr --preset=paper --ppo.lr 3e-6 --data-dir texts")
    )
    assert command.ppo == dataclasses.replace(presets.get("tldr", "paper").ppo, lr=3e-6)
    # a million episodes from 2,000 prompts see each 500 times
    assert (command.prompts, cli.parse(["tune"]).prompts) == (50_000, 2_000)
    assert cli.parse(shlex.split("sample --texts someone/else")).texts == "someone/else"
    command = cli.parse(shlex.split("fit-reward --preset released --task cnndm"))
    assert (command.config, command.normalize_samples) == (
        presets.get("cnndm", "released").reward,
        256,
    )
    assert isinstance(command, options.FitReward)


@pytest.mark.parametrize(
    "line, code, words",
    [
        ("", 2, "Missing subcommand"),
        ("sing", 2, "sing"),
        ("tune --reward reward --batch 8", 2, "--ppo.batch"),  # and says what was probably meant
        ("tune --task poems", 2, "sentiment"),
        ("tune --ppo.batch 4", 2, "whitening needs at least 8"),
        ("fit-reward --held-out 1", 2, "it is a share, from 0 to less than 1"),
        ("fit-reward --held-out -0.1", 2, "it is a share, from 0 to less than 1"),
        (
            "label --store nothing.db",
            1,
            "fill one with `python -m rlhf_helpers sample --store nothing.db`",
        ),
        ("export --store nothing.db --out x", 1, "there is no label store nothing.db"),
        (
            "judge --model MODEL --tuned runs/nowhere/else --device cpu",
            1,
            "no model folder at runs/nowhere/else: train one first",
        ),
        ("tune --model nobody/nothing --reward nowhere --device cpu", 1, "could not be fetched"),
        # it looked for them for ever
        ("sample --model MODEL --count 0 --device cpu", 1, "0 prompts for sentiment are asked for"),
        (
            "sample --model MODEL --count 2 --options 1 --device cpu",
            1,
            "1 options leave nothing to choose from",
        ),
        ("sample --model MODEL --device gpu", 1, "there is no kind of device called 'gpu'"),
        ("sample --model MODEL/config.json", 1, "is a file: name the folder that holds the model"),
        # it was found out after the first step
        ("tune --checkpoint-every 0", 1, "checkpoint_every is 0 steps: give 1 or more"),
        ("tune --rounds 0", 2, "rounds is 0: give 1 or more"),
        ("tune --rounds 2 --sharded", 2, "leave --sharded out"),
        # these were ignored without a word
        ("tune --labeler ada", 2, "--labeler is not used without --rounds: add --rounds"),
        ("tune --store zz.db", 2, "--store is not used without --rounds"),
        ("tune --initial-labels 5", 2, "--initial-labels is not used without --rounds"),
        ("tune --total-labels 9", 2, "--total-labels is not used without --rounds"),
        ("tune --fit.lr 1", 1, "--fit.* is not used without --rounds"),
        ("tune --preset paper --fit.lr 1", 1, "--fit.* is not used without --rounds"),
        ("tune --rounds 2 --reward mine", 2, "--reward is not used with --rounds: each round"),
        ("tune --method rloo --ppo.answers 1", 2, "set --ppo.answers to 2 or more"),
        ("tune --method grpo --rounds 2", 2, "--rounds tunes with PPO: leave --method grpo out"),
        ("tune --method dpo --reward mine", 2, "--reward is not used by DPO: it fits --labels"),
        ("tune --method dpo --sharded", 2, "leave --sharded out"),
        ("tune --labels mine.db", 2, "--labels is not used without --method dpo"),
        ("tune --format openai", 2, "--format is not used without --method dpo"),
        ("tune --method dpo --dpo.beta 0", 2, "beta must be positive"),
        ("tune --ppo.minibatches 0", 2, "minibatches is 0: give 1"),
        ("tune --ppo.kl-coef nan", 2, "kl_coef is nan: it must be a finite number"),
        ("fit-reward --config.lr nan", 2, "lr is nan: it must be a finite number"),
        (
            "label --store MODEL/config.json",
            1,
            "config.json",
        ),  # a StoreError was shown as a traceback
        (
            "fit-reward --model MODEL --labels nothing.csv",
            1,
            'give --labels a store (.db), a file, "recorded" or "released"',
        ),
        (
            "fit-reward --model MODEL --labels released --preset released --data-dir .",
            1,
            "Download https://",
        ),
        ("sample --model MODEL --device cuda", 1, "torch finds no GPU here"),
        (
            "tune --model MODEL --reward runs/nothing --device cpu",
            1,
            "fit one with `python -m rlhf_helpers fit-reward --out runs/nothing`",
        ),
        ("summarize-run .", 1, "holds no metrics.jsonl"),
        ("sample --model MODEL --preset released --data-dir nothing", 1, "hf download"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_with_an_exit_code(run, monkeypatch, line, code, words):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    got, out, err = run(line)
    assert got == code, out + err
    said = re.sub(r"[\s│]+", " ", out + err)
    assert words in said and "Traceback" not in said


def test_export_never_writes_over_a_store_or_into_another_folder(run, tmp_path):
    """A store given as --out became a file of JSON lines, and the labels were gone."""
    run("sample --model MODEL --count 4 --store labels.db --device cpu")
    run("label --store labels.db --labeler ada", typed="1\n" * 4)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/README.md").write_text("mine")
    for line, words in (
        ("--out labels.db", "is a database"),
        ("--format store --out labels.db", "is a database"),
        ("--format dataset --out notes", "something else"),
        ("--task tldr --out x", "nothing to export"),
    ):
        code, _, said = run(f"export --store labels.db {line}")
        assert code == 1 and words in said, line
    assert (
        len(LabelStore("labels.db").labels("sentiment")) == 4
        and (tmp_path / "notes/README.md").read_text() == "mine"
    )
    # its own folder again
    assert [run("export --store labels.db --format dataset --out set")[0] for _ in range(2)] == [
        0,
        0,
    ]


def test_sample_counts_the_prompts_whose_answers_are_equal(run, monkeypatch):
    """They were left out without a word: "2 of 2 are new", of five prompts."""
    texts = ["a", "b", "a", "a"] * 2 + ["a", "a ", "a", "a"] * 3
    monkeypatch.setattr("rlhf_helpers.tasks.texts", lambda *_: texts)
    code, said, _ = run("sample --model MODEL --count 5 --device cpu")
    assert code == 0 and said.endswith(
        "\n2 of 5 prompts gave different answers; the others are left out.\n"
    )


def test_export_of_several_tasks_asks_which_one(run, tmp_path):
    """Without --task the verdicts of judging went into the pairs, as labels of the task."""
    asked = [Comparison("sentiment", f"q {i}", ("a", "b")) for i in range(2)]
    pairs = [Comparison("sentiment-judging", f"q {i}", ("a", "b")) for i in range(3)]
    store = LabelStore("labels.db")
    store.add(asked + pairs)
    store.add_labels([Label(c.id, "ada", 0) for c in asked + pairs])
    for form in ("pairs", "pairwise", "csv", "openai"):
        line = f"export --store labels.db --model MODEL --format {form} --out mine.{form}"
        code, _, said = run(line)
        assert code == 1 and "(sentiment, sentiment-judging)" in said and "--task sent" in said
        assert run(f"{line} --task sentiment")[:2] == (0, f"2 records in mine.{form}.\n")
    for form, words in (("store", "5 labels"), ("dataset", "5 records")):
        code, said, _ = run(f"export --store labels.db --format {form} --out all.{form}")
        assert code == 0 and words in said
    verdict = {"prompt": "p", "chosen": "a", "rejected": "b", "task": "sentiment-judging"}
    with (tmp_path / "mine.pairs").open("a") as file:
        file.write(json.dumps(verdict) + "\n")
    line = "fit-reward --model MODEL --config.batch 2 --held-out 0 --normalize-samples 8"
    code, said, _ = run(f"{line} --device cpu --labels mine.pairs --format pairs")
    assert code == 0 and "1 records of other tasks than sentiment were left out." in said
    assert "Fitted on 2 labels" in said


def test_labels_of_another_task_are_named(run):
    """It said that there were no labels yet, to somebody who had just given some."""
    run("sample --model MODEL --count 4 --store labels.db --device cpu")
    run("label --store labels.db --labeler ada", typed="1\n" * 4)
    code, _, said = run(
        "fit-reward --model MODEL --labels labels.db --task descriptiveness --device cpu"
    )
    assert (
        code == 1 and "no labels of descriptiveness, but it has sentiment: give the --task" in said
    )


def test_a_reward_model_of_another_base_model_is_named(run, model, tmp_path):
    """GPT-2's largest was tuned with the reward model of its smallest, in the unit of that one's
    samples, without a word."""
    shutil.copytree(model, tmp_path / "large")
    shared = "--config.epochs 1 --normalize-samples 8 --device cpu --held-out 0.999"
    assert run(f"fit-reward --model MODEL {shared} --out fit")[0] == 0
    for name, words in (("MODEL", False), ("large", True)):
        code, said, _ = run(
            f"tune --model {name} --reward fit --out tuned-{words} --ppo.episodes 8 {SHORT} "
            "--prompts 8"
        )
        assert code == 0 and ("Note: the reward model in fit was fitted on" in said) == words


def test_encoder_decoders_are_refused_by_tune_too(run, tmp_path):
    """The memory check came first and showed all the families that transformers knows."""
    transformers.T5Config(
        vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    ).save_pretrained(tmp_path / "t5")
    code, _, said = run("tune --model t5 --reward fit --device cpu")
    assert code == 1 and "t5 holds no causal language model that transformers knows" in said


def test_a_reward_model_of_another_task_is_refused(run):
    shared = (
        "--model MODEL --task sentiment --config.epochs 1 --normalize-samples 8 --device cpu "
        "--held-out 0.999"
    )
    assert run(f"fit-reward {shared} --out fit")[0] == 0
    code, _, said = run("tune --model MODEL --reward fit --task descriptiveness --device cpu")
    assert code == 1 and "the reward model in fit learned sentiment, not descriptiveness" in said


def test_run_json_tells_of_the_attempt_that_trained(run, tmp_path):
    """It kept the settings of a first attempt that had failed before it trained."""
    line = f"tune --model MODEL --out tuned --ppo.episodes 8 {SHORT} --prompts 8 --reward "
    assert run(line + "nothing --ppo.lr 1e-5")[0] == 1
    run(
        "fit-reward --model MODEL --config.epochs 1 --normalize-samples 8 --device cpu --held-out "
        "0.999 --out fit"
    )
    assert run(line + "fit --ppo.lr 1e-3")[0] == 0
    about = json.loads((tmp_path / "tuned/run.json").read_text())
    assert about["config"]["lr"] == about["settings"]["ppo"]["lr"] == 1e-3


@pytest.mark.parametrize("error, code", [
    (FloatingPointError("score is nan"), 3),
    (guards.Collapsed("the policy gives one answer to everything"), 3),
    (people.MoreLabels("3 of 8 comparisons wait for an answer"), 4),
    (ranks.RankLost("another process has gone"), 3), (KeyboardInterrupt(), 130),
    (MemoryError("too little memory"), 1),
])  # fmt: skip
def test_training_that_stops_has_its_own_exit_code(run, monkeypatch, error, code):
    def stop(command):
        raise error

    monkeypatch.setitem(cli.COMMANDS, "tune", (options.Tune, stop))
    assert run("tune")[0] == code


def test_a_fault_that_mentions_a_checkpoint_is_not_called_a_collapsed_policy(run, monkeypatch):
    """Any RuntimeError with the word "checkpoint" in its message ended with exit code 3."""

    def stop(command):
        raise RuntimeError("size mismatch in the checkpoint")

    monkeypatch.setitem(cli.COMMANDS, "tune", (options.Tune, stop))
    with pytest.raises(RuntimeError, match="size mismatch"):
        run("tune")


ONLINE = (
    "tune --model MODEL --rounds 2 --initial-labels 8 --total-labels 20 --ppo.episodes 32 "
    f"{SHORT} --prompts 24 --fit.batch 4 --fit.epochs 1 --out online"
)


def test_tune_with_rounds_collects_labels_while_it_trains(run, tmp_path):
    """The paper's 20 rounds could not be run from the command line."""
    code, said, complaint = run(ONLINE)
    assert code == 0 and re.search(
        r"2 reward models, the last on (\d+) labels \(simulated\); it is in online/reward", said
    ), complaint
    rounds = [files.read_json_lines(tmp_path / f"online/rounds/0{i}.jsonl") for i in (0, 1)]
    assert [sum("comparison" in x for x in records) for records in rounds] == [8, 12]
    assert [sum("label" in x for x in records) for records in rounds] == [8, 20]
    assert all(x["label"]["simulated"] for x in rounds[1] if "label" in x)
    lines, weights = read_run(tmp_path / "online")
    assert [x["episodes"] for x in lines] == [8, 16, 24, 32]
    model = models.RewardModel.load(tmp_path / "online/reward/model")
    assert model.classifier.config.reward_task == "sentiment" and model.gain != 1
    assert "nothing to do" in run(ONLINE)[1]
    assert all(
        torch.equal(w, weights[name]) for name, w in read_run(tmp_path / "online")[1].items()
    )
    code, _, said = run(ONLINE.replace("--rounds 2", "--rounds 3"))
    assert code == 1 and "reward_model.online.rounds is 2 there and 3 now" in said
    # its reward model serves afterwards like one of `fit-reward`
    line = f"tune --model MODEL --reward online/reward --out again --ppo.episodes 8 {SHORT}"
    assert run(f"{line} --prompts 8")[0] == 0


def test_tune_with_rounds_waits_for_people(run, tmp_path):
    line = f"{ONLINE} --labeler ada --store mine.db"
    for waiting in (8, 12):
        code, _, said = run(line)
        assert code == 4 and f"{waiting} of " in said and "wait for an answer of ada" in said
        assert run("label --store mine.db --labeler ada", typed="2\n" * 40)[0] == 0
    code, said, _ = run(line)
    assert code == 0 and "the last on 20 labels (ada)" in said
    rounds = files.read_json_lines(tmp_path / "online/rounds/01.jsonl")
    assert not any(x["label"]["simulated"] for x in rounds if "label" in x)


def test_the_papers_rounds_bring_equally_many_labels(run, monkeypatch):
    plans = []
    monkeypatch.setattr(training, "check_memory", lambda *a: None)
    monkeypatch.setattr(training, "prompts", lambda *a: None)

    def plan(policy, task, pool, source, run, config, fit, config_of_ppo):
        plans.append((config, fit, config_of_ppo.steps))
        raise ValueError("enough")

    monkeypatch.setattr(training.online, "tune", plan)
    monkeypatch.setattr(training, "load", lambda a, device: (types.SimpleNamespace(tokenizer=0), 0))
    run("tune --task tldr --preset paper --rounds 20 --labeler everybody --device cpu")
    ((config, fit, steps),) = plans
    assert (config.initial, config.total, config.normalize_samples) == (3_000, 60_000, 256)
    assert fit == presets.get("tldr", "paper").reward and len(config.starts(steps)) == 20


@pytest.mark.parametrize("speedup, chosen", [(0.02, "fp32"), (2.0, "bf16")])
def test_auto_takes_the_precision_that_is_faster_here(run, tmp_path, monkeypatch, speedup, chosen):
    monkeypatch.setattr(bf16, "speedup", lambda kind: speedup)
    line = "fit-reward --model MODEL --precision auto --config.epochs 1 --normalize-samples 8"
    assert run(f"{line} --device cpu --held-out 0.999 --out fit")[0] == 0
    settings = json.loads((tmp_path / "fit/run.json").read_text())["settings"]
    assert settings["model"].endswith(f" in {chosen}")


def test_an_unfinished_run_holds_no_model_yet(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="has not written its model yet"):
        loading.model_folder(tmp_path)


def test_the_card_opens_on_this_machine_only(run, tmp_path, monkeypatch):
    run("sample --model MODEL --count 2 --store labels.db --device cpu")
    called = []
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda words, **_: called.append(words) or subprocess.CompletedProcess(words, 0),
    )
    assert run("label --store labels.db --task sentiment --labeler ada --card")[0] == 0
    assert called[0][1:3] == ["-m", "jupyterlab"] and "--ip=127.0.0.1" in called[0]
    (cell,) = json.loads((tmp_path / "labels.label.ipynb").read_text())["cells"]
    source = "".join(cell["source"])
    compile(source, "cell", "exec")
    assert "'sentiment', 'ada'" in source and str(tmp_path / "labels.db") in source


def test_a_jupyterlab_that_does_not_start_is_said_in_a_sentence(run, monkeypatch):
    run("sample --model MODEL --count 2 --store labels.db --device cpu")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    code, _, said = run("label --store labels.db --card")
    assert code == 1 and "error: JupyterLab ended with exit code 1" in said


def test_it_runs_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_helpers", "summarize-run", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 1
        and done.stderr.startswith("error: ")
        and "Traceback" not in done.stderr
    )


def test_the_saved_model_opens_with_its_tokenizer_in_a_plain_pipeline(model, tmp_path):
    loading.save(models.Policy.load(model), tmp_path)
    write = pipeline("text-generation", model=str(tmp_path / "model"), device="cpu")
    assert write("The harbour", max_new_tokens=3, do_sample=False)[0]["generated_text"].startswith(
        "The harbour"
    )
