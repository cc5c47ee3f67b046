"""Policy and reward model against transformers' own forward; saved, they open with plain
transformers."""

import json
import math
import shutil

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)
from transformers.cache_utils import DynamicCache

from rlhf_helpers import evaluation, models, reward, tasks, tensors
from rlhf_helpers.models import Policy, RewardModel
from rlhf_helpers.runtime import pretrained, tokenizers


@pytest.fixture
def reward_model(policy):
    model = RewardModel.from_policy(policy, seed=3)
    model.gain.fill_(2.0)
    model.bias.fill_(-0.5)
    return model


def test_positions_count_real_tokens_whatever_stands_between_them():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1]], dtype=torch.bool)
    assert tensors.positions(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3], [0, 0, 0, 1]]


def test_unpadded_logits_are_transformers_own(policy):
    tokens = torch.randint(16, (3, 7), generator=torch.Generator().manual_seed(0))
    ours = policy.logits(policy.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool)))
    assert torch.allclose(ours, policy.lm(tokens).logits, atol=1e-6)


@torch.no_grad()
def test_left_padding_moves_no_logit_whatever_the_pads_contain(policy, ragged):
    for pad in (0, 7):
        tokens = torch.where(ragged.mask, ragged.tokens, pad)
        logits = policy.logits(policy.hidden(tokens, ragged.mask))
        for row, keep, ours in zip(ragged.tokens, ragged.mask, logits):
            assert torch.allclose(ours[keep], policy.lm(row[keep][None]).logits[0], atol=1e-5)


@torch.no_grad()
def test_the_cache_changes_nothing(policy, ragged):
    whole = policy.hidden(ragged.tokens, ragged.mask)
    cache = DynamicCache()
    parts = [
        policy.hidden(ragged.tokens[:, a:b], ragged.mask[:, :b], cache)
        for a, b in ((0, 4), (4, 5), (5, 6))
    ]
    assert torch.allclose(torch.cat(parts, 1)[ragged.mask], whole[ragged.mask], atol=1e-5)


def llama():
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
        attention_dropout=0.5,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def opt():
    config = OPTConfig(
        vocab_size=16,
        hidden_size=16,
        ffn_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        word_embed_proj_dim=16,
        max_position_embeddings=32,
        dropout=0.5,
        attention_dropout=0.5,
        activation_dropout=0.5,
        pad_token_id=0,
    )
    return OPTForCausalLM(config)


def gpt2():
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=16,
            n_embd=16,
            n_layer=1,
            n_head=2,
            n_positions=32,
            resid_pdrop=0.5,
            embd_pdrop=0.5,
            attn_pdrop=0.5,
        )
    )


@pytest.mark.parametrize("make", [gpt2, llama, opt])
def test_dropout_is_gone_in_train_mode_too(make, ragged):
    policy = Policy(make())
    trained = policy.train().hidden(ragged.tokens, ragged.mask)[:, -1]
    assert torch.equal(trained, policy.eval().hidden(ragged.tokens, ragged.mask)[:, -1])


@pytest.mark.parametrize("make", [llama, opt])
@torch.no_grad()
def test_padding_moves_no_logit_of_other_families(make, ragged):
    policy = Policy(make()).eval()
    logits = policy.logits(policy.hidden(ragged.tokens, ragged.mask))
    for row, keep, ours in zip(ragged.tokens, ragged.mask, logits):
        assert torch.allclose(ours[keep], policy.lm(row[keep][None]).logits[0], atol=1e-5)


def test_a_new_value_head_says_zero_and_can_learn(ragged):
    policy = models.tiny_policy()
    values = policy.values(policy.hidden(ragged.tokens, ragged.mask))
    assert values.dtype == torch.float32 and not values.any()
    values[:, -1].sum().backward()
    assert policy.value_head.weight.grad.abs().sum() > 0 and policy.value_head.bias.grad.item() == 4


def test_the_reward_heads_spread_is_one_over_root_d_plus_one():
    # Width 2 tells d + 1 from d: 0.577 or 0.707. 300 draws have a standard error of 4 % of that.
    policy = models.tiny_policy(width=2, heads=1, vocabulary=2)
    weights = torch.cat(
        [RewardModel.from_policy(policy, seed).classifier.score.weight for seed in range(150)]
    )
    assert weights.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.1)
    assert abs(weights.mean().item()) < 0.1


def test_a_new_reward_model_has_the_policys_trunk_and_a_head_of_its_own_seed(policy):
    first, again, other = (RewardModel.from_policy(policy, seed) for seed in (1, 1, 2))
    trunk = policy.lm.base_model.state_dict()
    assert all(
        torch.equal(trunk[k], v) for k, v in first.classifier.base_model.state_dict().items()
    )
    assert torch.equal(first.classifier.score.weight, again.classifier.score.weight)
    assert not torch.equal(first.classifier.score.weight, other.classifier.score.weight)
    assert first.classifier.score.bias is None and (first.gain.item(), first.bias.item()) == (1, 0)
    with torch.no_grad():
        first.classifier.base_model.wte.weight.zero_()
    assert policy.lm.base_model.wte.weight.any()  # a copy, not the same tensor


@torch.no_grad()
def test_reward_is_gain_times_head_at_the_last_real_token_plus_bias(policy, reward_model, ragged):
    ours = reward_model(ragged.tokens, ragged.mask)
    for row, keep, given in zip(ragged.tokens, ragged.mask, ours):
        hidden = policy.lm(row[keep][None], output_hidden_states=True).hidden_states[-1][0, -1]
        assert given.item() == pytest.approx(
            2 * (hidden @ reward_model.classifier.score.weight[0]).item() - 0.5, abs=1e-5
        )


@pytest.mark.parametrize("left, right", [(0, 3), (3, 0), (2, 5)])
@torch.no_grad()
def test_pads_on_either_side_and_their_contents_change_no_reward(reward_model, ragged, left, right):
    plain = reward_model(ragged.tokens, ragged.mask)
    junk = torch.randint(16, (4, left + 6 + right), generator=torch.Generator().manual_seed(left))
    mask = torch.zeros_like(junk, dtype=torch.bool)
    mask[:, left : left + 6] = ragged.mask
    junk[mask] = ragged.tokens[ragged.mask]
    assert torch.allclose(reward_model(junk, mask), plain, atol=1e-5)


def test_gain_and_bias_are_buffers_that_no_optimizer_touches(reward_model):
    assert not {"gain", "bias"} & dict(reward_model.named_parameters()).keys()
    assert {"gain", "bias"} <= reward_model.state_dict().keys()


def test_a_saved_policy_opens_with_plain_transformers_and_with_us(policy, ragged, tmp_path):
    policy.save(tmp_path)
    tokens = ragged.tokens[:1]
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(opened(tokens).logits, policy.lm.eval()(tokens).logits)
    loaded = Policy.load(tmp_path)
    assert loaded.state_dict().keys() == policy.state_dict().keys()
    assert all(torch.equal(v, policy.state_dict()[k]) for k, v in loaded.state_dict().items())
    # nothing that unpickles
    assert {f.suffix for f in tmp_path.iterdir()} <= {".json", ".safetensors"}


def test_a_model_without_value_head_file_gets_a_fresh_one(policy, tmp_path):
    policy.lm.save_pretrained(tmp_path)
    assert not Policy.load(tmp_path).value_head.weight.any()


@torch.no_grad()
def test_a_saved_reward_model_opens_with_plain_transformers_in_the_same_order(
    reward_model, tmp_path
):
    reward_model.save(tmp_path)
    # 0 is the pad
    tokens = torch.randint(1, 16, (12, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens, dtype=torch.bool)
    ours = reward_model(tokens, mask)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)(tokens).logits.squeeze(-1)
    assert torch.equal(ours.argsort(), theirs.argsort())
    assert torch.allclose(ours, 2 * theirs - 0.5, atol=1e-5)
    assert torch.equal(RewardModel.load(tmp_path)(tokens, mask), ours)  # gain and bias came along


def test_the_reference_is_frozen_and_apart(policy):
    reference = policy.frozen_copy()
    assert not any(p.requires_grad for p in reference.parameters()) and all(
        p.requires_grad for p in policy.parameters()
    )
    before = reference.value_head.weight.clone()
    with torch.no_grad():
        for p in policy.parameters():
            p.zero_()
    assert torch.equal(reference.value_head.weight, before) and reference.lm.lm_head.weight.any()


def test_missing_models_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="train one first"):
        Policy.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no model"):
        RewardModel.load(tmp_path)


# no header, half a header, and half of the last numbers
@pytest.mark.parametrize("kept", [0, 100, -8])
@pytest.mark.parametrize(
    ("file", "load"),
    [("model", Policy.load), ("model", RewardModel.load), ("value_head", Policy.load)],
)
def test_weights_that_were_cut_off_are_named(policy, reward_model, tmp_path, file, load, kept):
    """A copy that had stopped half-way gave a bare "incomplete metadata, file not fully
    covered"."""
    (reward_model if load == RewardModel.load else policy).save(tmp_path)
    weights = tmp_path / f"{file}.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    with pytest.raises(
        OSError, match=rf"{file}\.safetensors is damaged .*copy or download it again"
    ):
        load(tmp_path)


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_of_another_kind_is_refused(tmp_path, tied):
    """A reward model gave a policy whose head was random numbers or, tied to the embeddings, that
    had been trained to give rewards."""
    config = GPT2Config(
        vocab_size=16,
        n_positions=32,
        n_embd=16,
        n_layer=1,
        n_head=2,
        pad_token_id=0,
        tie_word_embeddings=tied,
    )
    policy = Policy(GPT2LMHeadModel(config))
    policy.save(tmp_path / "policy")
    RewardModel.from_policy(policy).save(tmp_path / "reward")
    why = (
        "its head, score.weight, gives rewards"
        if tied
        else "lm_head.weight would have to be drawn at random"
    )
    with pytest.raises(
        ValueError, match=f"another kind of model: {why}.*reward model with RewardModel.load"
    ):
        Policy.load(tmp_path / "reward")
    with pytest.raises(
        ValueError,
        match="another kind of model: score.weight would have to be drawn.*with Policy.load",
    ):
        RewardModel.load(tmp_path / "policy")
    assert Policy.load(tmp_path / "policy") and RewardModel.load(tmp_path / "reward")


def test_a_tokenizer_with_more_words_than_the_model_is_refused(letters, make_policy):
    models.check_pair(make_policy(vocabulary=16), letters)
    with pytest.raises(ValueError, match="16 tokens but the model only 15"):
        models.check_pair(make_policy(vocabulary=15), letters)


def test_a_model_folder_without_a_tokenizer_says_so(tmp_path):
    """transformers makes one of a single token there, and the truncation rule was blamed."""
    GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=1)).save_pretrained(
        tmp_path
    )
    with pytest.raises(
        FileNotFoundError, match="there is no tokenizer in .*save it beside the model"
    ):
        models.load_tokenizer(tmp_path)


def test_a_tokenizer_of_the_right_size_that_is_not_the_models_own_is_refused(
    tmp_path, letters, task, ragged, monkeypatch
):
    """Policy and reward model of an earlier base model, whose tokenizer had as many tokens, gave
    nonsense without a word."""
    shutil.copytree(models.BASE, tmp_path / "base", ignore=shutil.ignore_patterns("*.md", "*.json"))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models.BASE / name, tmp_path / "base" / name)
    own = models.load_tokenizer(tmp_path / "base")
    base = Policy.load(tmp_path / "base")
    with monkeypatch.context() as patch:  # one that comes from the Hub knows its tokenizer, too
        patch.setattr(pretrained, "existing", lambda source: str(tmp_path / "base"))
        theirs = Policy.load("someone/base")
        known = theirs.lm.config.tokenizer_fingerprint
        assert known == tokenizers.fingerprint(own)
    base.save(tmp_path / "policy")
    RewardModel.from_policy(base).save(tmp_path / "reward")
    content = json.loads((tmp_path / "base" / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (tmp_path / "base" / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    other = models.load_tokenizer(tmp_path / "base")
    assert len(other) == len(own)
    for model in (base, Policy.load(tmp_path / "policy"), RewardModel.load(tmp_path / "reward")):
        models.check_pair(model, own)
        with pytest.raises(
            ValueError,
            match="tokenizer .*base.* is not the one of .*load both from the same folder",
        ):
            models.check_pair(model, other)
    # beside the saved policy, which took it for its own
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "base" / name, tmp_path / "policy" / name)
    with pytest.raises(ValueError, match="is not the one of"):
        Policy.load(tmp_path / "policy")
    stranger = Policy.load(tmp_path / "base")  # knows the other tokenizer as its own
    with pytest.raises(ValueError, match="is not the one of"):
        evaluation.pairs(stranger, base, ragged, tasks.SENTIMENT)
    with pytest.raises(ValueError, match="is not the one of"):
        model = RewardModel.load(tmp_path / "reward")
        reward.normalize(model, stranger, ragged, tasks.SENTIMENT)


def test_a_tokenizer_without_a_pad_pads_on_the_left_with_its_end_token(tmp_path):
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as parts
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(parts.WordLevel({"<end>": 0, "a": 1, "b": 2}, unk_token="<end>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>").save_pretrained(tmp_path)
    tokenizer = models.load_tokenizer(tmp_path)
    batch = tokenizer(["a b", "b"], padding=True)
    assert batch["input_ids"] == [[1, 2], [0, 2]] and batch["attention_mask"] == [[1, 1], [0, 1]]


def test_tiny_policies_repeat_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (models.tiny_policy(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.lm.lm_head.weight, again.lm.lm_head.weight)
    assert not torch.equal(first.lm.lm_head.weight, other.lm.lm_head.weight)
