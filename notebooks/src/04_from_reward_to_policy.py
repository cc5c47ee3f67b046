# %% [markdown]
# # 04 · From reward to policy
#
# You have a reward model: it gives any answer a number, and higher is better. You also have a language model that writes good and bad
# answers as chance has it. How do you get from the one to the other, to a model that writes the good ones?
#
# The obvious way is closed. In notebook 03 you had a loss, took its gradient, and went downhill. Here the loss would be minus the score of a
# *sampled* text, and a sample is a throw of dice: turn a weight a little, and either the same words come out, or quite different ones.
# There is no slope to go down. This notebook finds two ways round: one that needs no training, and the one on which PPO is built.
#
# **After this notebook you can**
#
# - use the best of $n$ samples as a policy, and say how far it moves from the model it samples from;
# - derive the policy gradient, and explain how a model can learn through samples that have no gradient;
# - subtract a baseline, and say why it changes the noise and not the direction;
# - use old samples for a new policy by the importance ratio, and show why that soon fails;
# - write down what RLHF maximises, $\mathbb{E}[r] - \beta\,\mathrm{KL}$, and the policy that is best at it;
# - estimate a KL from samples in three ways, and choose between them.
#
# | active | machine (one laptop core) | you need |
# |---|---|---|
# | about 60 minutes | about 2 minutes | notebooks 01 and 03; logarithms, expectations, a little autograd |

# %%
import math

import matplotlib.pyplot as plt
import pandas as pd
import torch

from rlhf_helpers import alternatives, evaluation, models, ppo, reward, sampling, tasks, tensors
from rlhf_helpers.course import checks, plots, show
from rlhf_helpers.course.profile import artifact, profile
from rlhf_helpers.runtime.optim import TensorFlowAdam
from rlhf_helpers.runtime.runs import default_device

size, device, task = profile(), default_device(), tasks.SENTIMENT
# %matplotlib inline
show.setup()

# %%
plots.pipeline("reward+ppo");
# %% [markdown]
# (Between two boxes: this notebook makes the parts of PPO, and notebook 05 puts them together.)
#
# ## 1. The first policy: the best of n
#
# Before we train anything, let us see what is already there. One prompt, sixteen answers of the base model, sorted by score:

# %%
reference = models.Policy.load().to(device).frozen_copy()
tokenizer = reference.tokenizer
reward_model = models.RewardModel.load(artifact("reward_sentiment")).to(device)
score = reward.scorer(reward_model, task)
prompts, samples = (32, 64) if size.name != "quick" else (8, 16)
asked = tasks.queries(task, tokenizer, prompts, split="test", seed=5).to(device)


def seeded(seed, device=device):
    return torch.Generator(device).manual_seed(seed)


# %% tags=["slow"]
drawn = sampling.sample(
    reference, asked, task.response_length, task.temperature, seeded(1), answers=samples
)
scores = score(drawn).view(prompts, samples).cpu()  # (prompts, samples)

# %%
show.wrapped("... " + tasks.query_texts(asked, tokenizer)[0][-150:])
first = tasks.texts(task, drawn.responses[:16], tokenizer)
table = pd.DataFrame({"answer": first, "score": scores[0, :16].tolist()})
table.sort_values("score", ascending=False).iloc[[0, 1, 7, 8, 14, 15]].round(2)

# %% [markdown]
# (An answer with exactly -1.00 never came to a full stop: whatever it says, that is its score, as in notebook 03.)
#
# The model writes better and worse answers, by this score. (The best one here is not happy: the labeler's program finds no happy word in it. A
# score says what the reward model believes. Remember it when you read scores.) So here is a policy that needs no training: draw $n$ answers, let
# the reward model score them, and keep the one with the highest score. This is **best of n**, and the package has it in a few lines:

# %%
show.source(alternatives.best_of)

# %% [markdown]
# How much does it gain? From one pool of samples we can estimate that for every $n$ at once, by averaging over all the ways of choosing
# $n$ samples from the pool (`alternatives.expected_best`). **Guess first**: what will each doubling of $n$ add?

# %%
ns = [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= samples]
best = [alternatives.expected_best(scores, n).mean().item() for n in ns]
_, ax = plt.subplots(figsize=(6.6, 3))
ax.semilogx(ns, best, "o-", color=plots.BLUE, base=2)
ax.set(xlabel="n", ylabel="mean score", title="What choosing gains")
ax.set_xticks(ns, [str(n) for n in ns]);
# %% [markdown]
# *How to read it:* the line is the mean score of the best of $n$ answers; at $n = 1$ nothing is chosen. One unit is a standard deviation of
# the base model's whole responses, before the cut and the -1s (hence the start below 0). Every doubling of $n$ adds something, but less than
# the one before.

# %%
assert all(a < b for a, b in zip(best, best[1:])), "the best of more cannot be worse"
show.note(f"Best of {ns[-1]} gains **{best[-1] - best[0]:.1f}** over a single sample.")

# %% [markdown]
# Best of n is an excellent policy with two limits. Every answer costs $n$ samples, each time somebody asks. And it finds only what the
# model already writes: an answer that comes up once in a million needs about a million samples. To do better, the preference must go into
# the weights, and for that we need a gradient.
#
# ## 2. A world small enough to list
#
# With a real model nobody can check a gradient: the expected score is a sum over all possible answers, and with 3,072 tokens in 32 places
# there are more of them than atoms in the universe. So we take a world in which every expectation is a sum that we can write out.
#
# Saltmere has a weather forecaster. A forecast has three words, one for each day, out of five: there are $5^3 = 125$ forecasts. The base
# model is gloomy, and believes that tomorrow will be much like today.

# %%
words = ("sun", "breeze", "cloud", "rain", "storm")
answers = torch.cartesian_prod(*[torch.arange(5)] * 3)  # (125, 3): every forecast there is
day1, day2, _ = answers.T
prefix = torch.stack([0 * day1, 1 + day1, 6 + 5 * day1 + day2], -1)  # (125, 3): row of theta


def token_logprobs(theta):  # (31, 5) -> (125, 3)
    return theta.log_softmax(-1)[prefix, answers]


def answer_logprobs(theta):  # (31, 5) -> (125,)
    return token_logprobs(theta).sum(-1)


# %% [markdown]
# `theta` ($\theta$) stands for the weights. It has one row of five logits for each beginning that a forecast can have: nothing yet, one
# word, two words. (A neural network computes these rows; here they are in a table.) The log-probability of a forecast is the sum of those
# of its three tokens, as in notebook 01. Now the base model's logits, and the reward: the labeler loves sun, and the last day counts double.

# %%
yesterday = torch.cat([torch.tensor([2.5]), *[torch.arange(5.0)] * 6])  # of each prefix
common = torch.tensor([0.0, 0.4, 0.9, 0.9, 0.0])
base = common - 0.6 * (torch.arange(5.0) - yesterday[:, None]).abs()  # (31, 5)
base = base.double()  # float64, so that "equal" can mean 15 digits
log_rho = answer_logprobs(base)
rho = log_rho.exp()  # (125,)

nice = torch.tensor([2, 1, 0, -1, -2]).double()[answers]  # (125, 3)
raw = nice.sum(-1) + nice[:, -1]
raw = raw - (rho * raw).sum()
r = raw / (rho * raw**2).sum().sqrt()  # mean 0, deviation 1 under the base model
names = [" ".join(words[token] for token in row) for row in answers.tolist()]


def likeliest(log_pi, count=4):
    rows = log_pi.topk(count).indices
    return pd.DataFrame(
        {"forecast": [names[y] for y in rows], "probability": log_pi[rows].exp(), "reward": r[rows]}
    ).round(3)


likeliest(log_rho)

# %% [markdown]
# From here on we use the letters of the whole course (all of them are in [a table](../docs/symbols.md)):
#
# - $y$ is an answer, $y_t$ its token number $t$. (The forecaster has no prompt, so there is no $x$.)
# - $\pi$ (pi) is the **policy**, the model being trained: $\pi(y)$ is the probability that it writes $y$, and $\pi_\theta$ says that it has weights $\theta$.
# - $\rho$ (rho) is the **reference**, the base model, which never changes.
# - $r(y)$ is the **reward** of an answer, here the table `r`, for texts the reward model's score.
# - $\mathbb{E}_\pi[\dots]$ is the mean over answers that $\pi$ draws: $\sum_y \pi(y)\dots$
#
# ### Exercise 1: the best of n, exactly
# Difficulty ●●●○○ · importance ●●●○○ · 12 minutes
#
# If all 125 probabilities are known, those under best of $n$ can be computed. On paper first: three answers with probabilities .5, .3, .2
# and rewards 1, 2, 3, and $n = 2$. The best of two has reward 1 only if both draws have it: $.5^2 = .25$. It has reward *at most* 2 if both
# draws are at most 2: $.8^2 = .64$, so exactly 2 with .39. The rest, .36, is 3. Answers with **equal** rewards share what falls to
# their reward in proportion to their own probabilities. Write it for any probabilities, rewards and $n$.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# For each answer you need two sums of probabilities: over all answers with a reward at most as high, and over all with a lower one. A
# matrix of comparisons, `r[None, :] <= r[:, None]`, gives the first. The difference of their $n$-th powers falls to this reward.
# </details>


# %% tags=["exercise"]
def best_of_n(p, r, n):  # (Y,) probabilities, (Y,) rewards, int -> (Y,) probabilities
    return ...


# %% tags=["solution"]
def best_of_n(p, r, n):  # (Y,) probabilities, (Y,) rewards, int -> (Y,) probabilities
    at_most = (r[None, :] <= r[:, None]).to(p) @ p
    below = (r[None, :] < r[:, None]).to(p) @ p
    return (at_most**n - below**n) * p / (at_most - below)


# %% tags=["check"]
solved = checks.nb04_best_of_n(best_of_n)

# %% tags=["catch-up"]
if not solved:

    def best_of_n(p, r, n):
        return alternatives.best_of_logprobs(p.log(), r, n).exp()


# %% [markdown]
# How far is this policy from the base model? We measure distance, as in notebook 00, by the KL divergence: draw answers from the policy,
# and average how much higher its log-probability of them is than the reference's,
#
# $$\mathrm{KL}(\pi\,|\,\rho) = \mathbb{E}_\pi\bigl[\log \pi(y) - \log \rho(y)\bigr].$$
#
# For best of $n$ there is a famous formula, $\log n - (n-1)/n$. If no two answers have the same reward and each is rare, $\pi(y)$ is nearly
# $\rho(y)\,n\,F^{n-1}$, where $F$ is the share of answers below $y$. So the KL is $\log n$ plus $n-1$ times the mean of $\log F$, which for
# the best of $n$ draws is $-1/n$. With equal rewards or likely answers the formula is too high: in general it is a **bound**.


# %%
def mean(log_pi, values=r):
    return (log_pi.exp() * values).sum().item()


def kl(log_p, log_q):
    return mean(log_p, log_p - log_q)


log_best = {n: best_of_n(rho, r, n).log() for n in (1, 2, 4, 8, 16, 64)}
rows = [
    (n, mean(log_b), kl(log_b, log_rho), alternatives.best_of_kl_bound(n))
    for n, log_b in log_best.items()
]
assert all(exact <= bound + 1e-9 for _, _, exact, bound in rows)
columns = ["n", "mean reward", "KL, exact", "log n - (n-1)/n"]
pd.DataFrame(rows, columns=columns).set_index("n").round(3) + 0.0

# %% [markdown]
# The best of 16 has a mean reward of almost two deviations, for less than two nats. Section 6 shows that hardly any policy gets more for the price.
#
# ## 3. A gradient without a path
#
# Now the weights. What we want to make large is the expected reward,
#
# $$J(\theta) = \mathbb{E}_{\pi_\theta}[r(y)] = \sum_y \pi_\theta(y)\, r(y).$$
#
# Look at what happens when a weight moves. We raise one logit, that of *sun* on the first day, and keep the random numbers fixed, so that
# each forecast is drawn with the same luck every time.


# %%
def write(theta, luck):  # (31, 5), (N, 3) random numbers -> (N,) which forecast each writes
    y1 = tensors.draw(theta[0].expand(len(luck), -1), luck[:, 0])[:, 0]
    y2 = tensors.draw(theta[1 + y1], luck[:, 1])[:, 0]
    y3 = tensors.draw(theta[6 + 5 * y1 + y2], luck[:, 2])[:, 0]
    return 25 * y1 + 5 * y2 + y3


luck = torch.rand(2_000, 3, generator=seeded(3, "cpu"))  # of 2,000 forecasts
pushes = torch.linspace(-3, 3, 121)
staircase, smooth = [], []
for push in pushes:
    theta = base.clone()
    theta[0, 0] += push
    staircase.append(r[write(theta, luck)])
    smooth.append(mean(answer_logprobs(theta)))
staircase = torch.stack(staircase)  # (121, 2000)

# %%
_, axes = plt.subplots(1, 2, figsize=(9, 3), sharex=True)
looks = ((plots.BLUE, "-"), (plots.RED, "--"), (plots.GREEN, ":"))
busy = (staircase.diff(dim=0) != 0).sum(0).topk(3).indices  # those with the most steps
for i, (colour, style) in zip(busy, looks):
    axes[0].step(pushes, staircase[:, i], style, color=colour, where="post")
axes[0].set(title="Three drawn forecasts", xlabel="added to the logit", ylabel="reward")
axes[1].plot(pushes, staircase.mean(1), color=plots.SKY, label="mean of 2,000 draws")
axes[1].plot(pushes, smooth, "--", color=plots.BLACK, label="the sum over all 125")
axes[1].set(title="Their average", xlabel="added to the logit", ylabel="mean reward")
axes[1].legend();
# %% [markdown]
# *How to read it:* on the left each line is one forecast with its luck held fixed (three with many steps), as the logit of *sun* grows. It is a staircase: flat, with a
# jump where the draw falls on another word. On the right, the average of 2,000 staircases is close to a smooth slope (dashed), the
# sum over all forecasts.
#
# This is what "no gradient passes through the sampled tokens" means. Each stair is flat, so its slope is 0 almost everywhere, and
# autograd would report nothing else: a token is a whole number and has no derivative. But the *average* has a slope. It comes from where
# the stairs jump, and those places move with $\theta$. So do not differentiate the drawn reward; differentiate the **probability** of
# drawing it. In $\sum_y \pi_\theta(y)\,r(y)$ the rewards are plain numbers; $\theta$ occurs only in the probabilities, and they are
# smooth. In the world of forecasts autograd can do it directly:

# %%
theta = base.clone().requires_grad_()
expected = (answer_logprobs(theta).exp() * r).sum()
(exact,) = torch.autograd.grad(expected, theta)  # (31, 5): the true slope
pd.DataFrame(exact[:1].numpy(), columns=words, index=["first day"]).round(3)

# %% [markdown]
# (Sun goes up and rain down, as it should. Breeze goes up most, though sun is worth more: the base model writes sun so rarely that there is
# little to push. Section 6 comes back to that.) For texts we cannot write out the sum, but an *average* can be estimated from samples, and one line of
# calculus makes it one. The derivative of a logarithm is $\nabla \log \pi = \nabla\pi / \pi$, so $\nabla \pi = \pi\,\nabla\log\pi$, and
#
# $$\nabla J = \sum_y \nabla\pi_\theta(y)\,r(y) = \sum_y \pi_\theta(y)\,r(y)\,\nabla\log\pi_\theta(y) = \mathbb{E}_{\pi_\theta}\bigl[\,r(y)\,\nabla\log\pi_\theta(y)\bigr].$$
#
# This is the **log-derivative trick**, and the estimate it gives is called **REINFORCE** (Williams 1992). In words: let the model write;
# then push up the log-probability of what it wrote, in proportion to the reward. The tokens are data, as the words of a book are in
# ordinary training. The gradient goes not through the choice of a token, but through the logits that made this choice likely.
#
# ### Exercise 2: a loss with the right gradient
# Difficulty ●●○○○ · importance ●●●●● · 8 minutes
#
# Optimizers want a loss. Write one whose gradient is the estimate of $-\nabla J$, averaged over a batch of B sampled answers. What its
# *value* is does not matter.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The log-probability of an answer is the sum over its tokens. Multiply it with the answer's reward, which is a constant here, and average
# over the answers. Optimizers go downhill.
# </details>


# %% tags=["exercise"]
def policy_gradient_loss(logprobs, rewards):  # (B, R) with gradients, (B,) -> scalar
    return ...


# %% tags=["solution"]
def policy_gradient_loss(logprobs, rewards):  # (B, R) with gradients, (B,) -> scalar
    return -(rewards * logprobs.sum(-1)).mean()


# %% tags=["check"]
solved = checks.nb04_policy_gradient_loss(policy_gradient_loss)

# %% tags=["catch-up"]
if not solved:
    policy_gradient_loss = alternatives.reinforce_loss

# %% [markdown]
# Is it right? Take the estimate that each of the 125 forecasts alone would give, and average them by how often they are drawn. That must be
# the exact gradient. Then let chance draw.


# %%
def slope(rows, rewards):
    """Ascent direction from some sampled forecasts, at the base model."""
    theta = base.clone().requires_grad_()
    loss = policy_gradient_loss(token_logprobs(theta)[rows], rewards)
    return -torch.autograd.grad(loss, theta)[0]


alone = torch.stack([slope([y], r[[y]]) for y in range(125)])  # (125, 31, 5)
checks.nb04_equal("the average estimate", torch.einsum("y,yij->ij", rho, alone), exact)

rows = []
for count in (16, 100, 10_000):
    y = torch.multinomial(rho, count, replacement=True, generator=seeded(4, "cpu"))
    rows.append((count, ((slope(y, r[y]) - exact).norm() / exact.norm()).item()))
assert rows[0][1] > 1 > rows[1][1]
pd.DataFrame(rows, columns=["forecasts drawn", "error, as a share of the gradient"]).round(2)

# %% [markdown]
# Right on average, and very noisy: with 16 samples the error is larger than the gradient itself. So the next subject is noise.
#
# ## 4. A baseline: the same direction, less noise
#
# Suppose the labeler gave every forecast 5 points more. Nothing about what is *better* has changed. Yet REINFORCE now pushes up every
# forecast that it draws, bad ones too, only less. The extra pushes cancel on average, but each single one is noise. The cure is to
# subtract what one would expect anyway, a **baseline** $\bar r$. The direction stays the same, for any $\bar r$ that does not depend on the answer:
#
# $$\mathbb{E}_\pi[\,\bar r\,\nabla\log\pi\,] = \bar r\sum_y \pi\,\frac{\nabla\pi}{\pi} = \bar r\,\nabla\sum_y\pi(y) = \bar r\,\nabla 1 = 0.$$
#
# Probabilities always add up to 1, so pushing *everything* up pushes nothing. What remains, $A = r - \bar r$, is the **advantage**: how much
# better than expected. With all forecasts listed, the noise can be computed exactly.

# %%
each = torch.autograd.functional.jacobian(token_logprobs, base)  # (125, 3, 31, 5)


def spread(advantages):  # (125,) or (125, 3) -> deviation of the estimate from one answer
    advantages = advantages.expand(3, -1).T if advantages.dim() == 1 else advantages
    estimates = torch.einsum("yt,ytij->yij", advantages, each).flatten(1)
    average = rho @ estimates
    checked = (average - exact.flatten()).abs().max()
    assert checked < 1e-12, "a baseline must not change the direction"
    return (rho @ (estimates - average).square().sum(-1)).sqrt().item()


# %%
y = torch.multinomial(rho, 2_000, replacement=True, generator=seeded(5, "cpu"))
baselines, few = torch.linspace(-5, 5, 61), (-5, -2.5, 0, 2.5, 5)
measured = [
    torch.einsum("y,yij->yij", r[y] - b, each.sum(1)[y]).flatten(1).var(0).sum().sqrt() for b in few
]
_, ax = plt.subplots(figsize=(6.6, 3))
ax.plot(baselines, [spread(r - b) for b in baselines], color=plots.BLUE, label="exact")
ax.plot(few, measured, "D", color=plots.RED, label="measured on 2,000 draws")
ax.axhline(exact.norm(), color=plots.GREY, linestyle=":", label="length of the gradient itself")
ax.set(xlabel="baseline", ylabel="deviation of one estimate", ylim=(0, None))
ax.set_title("The noise depends on the baseline, the direction does not")
ax.legend();
# %% [markdown]
# *How to read it:* the curve is the root mean square distance of one answer's estimate from the true gradient, for each baseline; diamonds are
# measured on samples. The lowest point is close to 0, the mean reward of the base model. A baseline that is off by 5 makes the noise about
# five times as large, and so asks for 25 times as many samples. Even at its best the noise of one answer is far above the dotted line,
# the length of the gradient that we want to see.

# %%
assert 4.5 < spread(r + 5) / spread(r) < 5.5 and spread(r) > 5 * exact.norm()

# %% [markdown]
# Where does the mean come from, for a prompt nobody has seen? Draw several answers to it and use **the others**: the baseline of an answer is
# the mean reward of its neighbours. (This is called RLOO, REINFORCE with leave-one-out; `ppo` can do it too.)
#
# ### Exercise 3: leave one out
# Difficulty ●●○○○ · importance ●●●○○ · 6 minutes
#
# Given the rewards of G answers to each of P prompts, return the advantages: each reward minus the mean of the *other* answers to its prompt.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# The sum of the others is the sum of all, minus one's own. There are G - 1 others.
# </details>


# %% tags=["exercise"]
def leave_one_out(rewards):  # (P, G) -> (P, G)
    return ...


# %% tags=["solution"]
def leave_one_out(rewards):  # (P, G) -> (P, G)
    others = (rewards.sum(-1, keepdim=True) - rewards) / (rewards.shape[-1] - 1)
    return rewards - others


# %% tags=["check"]
solved = checks.nb04_leave_one_out(leave_one_out)

# %% tags=["catch-up"]
if not solved:

    def leave_one_out(rewards):
        flat = rewards.reshape(-1, 1)
        return (flat - ppo.others_mean(flat, rewards.shape[-1])).view_as(rewards)


# %% [markdown]
# Why not simply the mean of all? Because it contains the answer's own reward, so it *does* depend on the answer, and the proof above fails.
# (Here the harm is small: every advantage shrinks by $1 - 1/G$, which shortens the step.)
#
# Does the baseline matter in practice? Train on forecasts, all with 5 points added, sixteen of them a step: forty times without a baseline,
# forty times with the neighbours'. (The forty run side by side, in one tensor.)


# %%
def reinforce(advantages_of, trainings=40, steps=150, batch=16, lr=0.5):
    theta, dice, path = base.expand(trainings, 31, 5).clone(), seeded(0, "cpu"), []
    for _ in range(steps):
        theta.requires_grad_()
        tokens = theta.log_softmax(-1)[:, prefix, answers]  # (trainings, 125, 3)
        log_pi = tokens.detach().sum(-1)
        pi = log_pi.exp()
        path.append(torch.stack([(pi * r).sum(-1), (pi * (log_pi - log_rho)).sum(-1)]))
        y = torch.multinomial(pi, batch, replacement=True, generator=dice)
        advantages = advantages_of(r[y] + 5)  # (trainings, batch)
        drawn_tokens = tokens[torch.arange(trainings)[:, None], y].flatten(0, 1)
        loss = trainings * policy_gradient_loss(drawn_tokens, advantages.flatten())
        (gradient,) = torch.autograd.grad(loss, theta)
        theta = theta.detach() - lr * gradient
    return torch.stack(path), log_pi  # (steps, 2, trainings): expected reward and KL


runs = {"no baseline": reinforce(lambda x: x), "leave one out": reinforce(leave_one_out)}

# %%
_, ax = plt.subplots(figsize=(6.6, 3))
looks = {"no baseline": ("--", plots.RED, "//"), "leave one out": ("-", plots.BLUE, "")}
for name, (path, _) in runs.items():
    style, colour, hatch = looks[name]
    low, middle, high = (path[:, 0].quantile(q, dim=-1) for q in (0.1, 0.5, 0.9))
    ax.plot(middle, style, color=colour, label=name)
    band = {"alpha": 0.2, "linewidth": 0, "hatch": hatch}
    ax.fill_between(range(len(middle)), low, high, color=colour, **band)
ax.axhline(r.max(), color=plots.GREY, linestyle=":", label="the best forecast")
ax.set(xlabel="step", ylabel="expected reward, exact", title="Learning with and without a baseline")
ax.legend(loc="lower right");
# %% [markdown]
# *How to read it:* a line is the middle one of forty trainings, a band holds the middle 80 % of them; the height is the exact expected reward
# of the policy. With the neighbours as baseline (solid) the trainings stay closer together and climb steadily. Without one (dashed, hatched)
# some get lucky and are even faster, but they are thrown far apart early on, and many settle on a forecast that is far from the best.

# %%
ends = pd.DataFrame({name: path[-1, 0].numpy() for name, (path, _) in runs.items()})
lowest, middle = ends.min(), ends.mean()
assert middle["leave one out"] > middle["no baseline"] + 0.2
assert lowest["leave one out"] > lowest["no baseline"] + 0.5
ends.describe().loc[["mean", "std", "min", "max"]].round(2)

# %% [markdown]
# **A better baseline knows the beginning.** When the third word is drawn, the first two are already there, and they say a lot about the
# reward. A baseline for token $t$ may depend on everything before $t$: the proof holds for each token by itself. So let $V_t$ be the
# expected reward given the words *before* word $t$ (here a sum; in notebook 05 the **value head** learns it). Once we know $V$, we may even put the
# value after the token in the place of the final reward: $V_{t+1} - V_t$ asks only what *this* word changed.


# %%
def value(known):
    """Expected reward of each forecast's first `known` words."""
    beginning = (answers[:, :known] * 5 ** torch.arange(known)).sum(-1)
    same = (beginning[:, None] == beginning).to(rho)
    return (same @ (rho * r)) / (same @ rho)


V = torch.stack([value(t) for t in range(4)], -1)  # (125, 4)
bars = {
    "r + 5": spread(r + 5),
    "r - mean": spread(r),
    "r - V before": spread(r[:, None] - V[:, :3]),
    "V after - V before": spread(V[:, 1:] - V[:, :3]),
}
_, ax = plt.subplots(figsize=(6.6, 2.4))
ax.barh(list(bars), list(bars.values()), color=plots.SKY, edgecolor=plots.BLUE, hatch="//")
ax.axvline(exact.norm(), color=plots.BLACK, linestyle=":")
ax.set(xlabel="deviation of one estimate", title="Four advantages with the same direction")
ax.invert_yaxis();
# %% [markdown]
# *How to read it:* shorter is better; the dotted line is the length of the gradient. All four give exactly the same direction on average (the
# code asserts it). The more is known of what was to be expected, the less noise is left.
#
# The last bar is the shortest, but it needs *true* values: a wrong baseline only costs noise, while a wrong $V_{t+1}$ in the place of the
# reward points the wrong way. Notebook 05 mixes the last two with a number called $\lambda$ (lambda).
#
# ## 5. Old samples for a new policy: the importance ratio
#
# Samples are expensive: 32 passes through the model one after another, and a reading by the reward model. REINFORCE uses each once, since
# after one step the policy is another. Can old samples serve the new one? Yes, if we count each by how much more often the new policy
# would have drawn it. With the **importance ratio** $w(y) = \pi(y) / \pi_{old}(y)$,
#
# $$\mathbb{E}_{old}[\,w\,r\,] = \sum_y \pi_{old}(y)\,\frac{\pi(y)}{\pi_{old}(y)}\,r(y) = \sum_y \pi(y)\,r(y) = \mathbb{E}_{\pi}[\,r\,].$$
#
# ### Exercise 4: the score of a policy that was never run
# Difficulty ●●○○○ · importance ●●●●● · 8 minutes
#
# B answers were drawn by the old policy. Estimate the mean reward of the new one from the log-probabilities that both give to their tokens.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# Logarithms come in, per token. The ratio of whole answers is the product over tokens, so its logarithm is a sum. Average over the B answers.
# </details>


# %% tags=["exercise"]
def reweighted_mean(logprobs, old_logprobs, rewards):  # (B, R) (B, R) (B,) -> scalar
    return ...


# %% tags=["solution"]
def reweighted_mean(logprobs, old_logprobs, rewards):  # (B, R) (B, R) (B,) -> scalar
    w = (logprobs - old_logprobs).sum(-1).exp()
    return (w * rewards).mean()


# %% tags=["check"]
solved = checks.nb04_reweighted_mean(reweighted_mean)

# %% tags=["catch-up"]
if not solved:

    def reweighted_mean(logprobs, old_logprobs, rewards):  # PPO's loss, with no clip
        one = torch.ones(len(rewards), 1, dtype=torch.bool)
        sums = (x.sum(-1, keepdim=True) for x in (logprobs, old_logprobs))
        return -ppo.policy_loss(*sums, rewards[:, None], one, math.inf)


# %% [markdown]
# The formula is exact at any distance. At the old policy itself $w = 1$, and its slope is $\nabla w = w\,\nabla\log\pi = \nabla\log\pi$: the first
# step from a batch is exactly REINFORCE. Now let the new policy move away, towards better forecasts, and estimate its mean reward from
# 100 forecasts of the *old* one, the base model. We repeat that 400 times.

# %%
tilts = torch.linspace(0, 4, 25)
moved = [(log_rho + tilt * r).log_softmax(-1) for tilt in tilts]  # ever further from rho
y = torch.multinomial(rho, 400 * 100, replacement=True, generator=seeded(6, "cpu"))
guesses = torch.stack([((p - log_rho).exp() * r)[y].view(400, 100).mean(1) for p in moved])
low, middle, high = (guesses.quantile(q, dim=1) for q in (0.05, 0.5, 0.95))
nats = [kl(p, log_rho) for p in moved]
truth = [mean(p) for p in moved]
useful = [100 / mean(log_rho, (2 * (p - log_rho)).exp()) for p in moved]

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), sharex=True)
left.fill_between(nats, low, high, color=plots.SKY, alpha=0.4, label="90 % of the estimates")
left.plot(nats, middle, color=plots.BLUE, label="the median of the estimates")
left.plot(nats, truth, "--", color=plots.BLACK, label="the truth")
left.set(title="Mean reward, from 100 old samples", ylabel="reward")
right.plot(nats, useful, color=plots.RED)
right.set(title="How many of the 100 still count", ylabel="effective samples", ylim=(0, 102))
for ax in (left, right):
    ax.set_xlabel("KL of the new policy from the old, nats")
left.legend();
# %% [markdown]
# *How to read it:* to the right, the new policy is further from the one that drew the samples. On the left, the estimates (band) are good near
# 0 and then fan out: at two nats they lie anywhere between a third of the truth and twice the truth. Far out the median is too
# *low*. On the right, the effective number of samples, $100 / \mathbb{E}_{old}[w^2]$: how many samples of the new policy itself would be
# about as good. After half a nat nearly two thirds are gone, after two nats all but a handful.

# %%
near, far = (min(range(25), key=lambda i: abs(nats[i] - at)) for at in (0.5, 2.0))
assert useful[near] < 45 and 2 < useful[far] < 10
assert low[far] < 0.5 * truth[far] and high[far] > 1.8 * truth[far] and middle[-1] < 0.8 * truth[-1]

# %% [markdown]
# How can an estimate be right on average and typically too low? Far away the average rests on forecasts that the old policy hardly
# ever draws, each with an enormous ratio. Most batches of a hundred contain too few of them, or none, and the estimate is too low. Once in
# a while there are several, and the estimate is absurdly high. The mean of $w$ is always 1, but a mean that rests on one sample in a
# thousand is of no use to somebody who has a hundred. *The spread of $w$ grows about exponentially with the distance.*
#
# And a forecast has three tokens. Ratios of whole answers are products over tokens, so for a text of 32 tokens small differences multiply:
# 1.02 for each token makes 1.9 for the answer, 1.1 makes 21, and 1.2 makes 342.
#
# So the ratio may be trusted only near 1, and this is the whole idea of PPO's clip. PPO uses a batch for several steps, with a ratio for each
# *token*, and stops pushing a token once its ratio has left the range from 0.8 to 1.2 in the direction in which it was pushed. Within the range
# old samples are almost as good as new ones; beyond it they would be trusted with things they do not know. (The ratio of a token leaves
# out that the tokens before it have become more or less likely as well. At the old policy that error is 0, and it grows with every step; it is
# what PPO pays for far less noise, and one more reason to stay near.)
#
# ## 6. What we really want: reward, at a price
#
# One question has been left out. Where does REINFORCE end? Here is the policy of the first of the forty trainings:

# %%
final = runs["leave one out"][1]  # (40, 125)
assert final.exp().amax(-1).median() > 0.9
assert names[final[0].argmax()] == names[r.topk(2).indices[1]] and rho[r.argmax()] < 0.01
likeliest(final[0])

# %% [markdown]
# Nearly all probability is on a single forecast. That it is one and not many is no fault of the algorithm: expected reward is largest if one
# best answer always comes. That it is only the *second* best is a fault: "sun sun sun" would earn more, but the base model hardly ever writes it, and
# what is rarely drawn is rarely pushed. (Other trainings, with other luck, end elsewhere.)
#
# A worse trouble lies elsewhere. The reward comes from a *model* of the labeler, which was fitted on the base model's texts
# and is unreliable far from them. So distance must cost something. What RLHF maximises is
#
# $$J_\beta(\pi) = \mathbb{E}_\pi[\,r\,] - \beta\,\mathrm{KL}(\pi\,|\,\rho),$$
#
# where $\beta$ (beta) is the price of a nat. Which policy is best? No gradient is needed. Write the KL out, and bring everything
# under one logarithm:
#
# $$J_\beta = \mathbb{E}_\pi\Bigl[\,r - \beta\log\frac{\pi}{\rho}\Bigr] = -\beta\,\mathbb{E}_\pi\Bigl[\log\frac{\pi}{\rho\,e^{r/\beta}}\Bigr] = \beta\log Z - \beta\,\mathrm{KL}(\pi\,|\,\pi^*),$$
#
# $$\text{with}\qquad \pi^*(y) = \frac{\rho(y)\,e^{r(y)/\beta}}{Z},\qquad Z = \sum_y \rho(y)\,e^{r(y)/\beta}.$$
#
# $Z$ only makes the probabilities add up to 1; it is the same for every policy. A KL is never negative, and 0 only between equal
# distributions. So no policy beats $\pi^*$, and $\pi^*$ reaches $\beta\log Z$. In words: keep the reference, and multiply the probability of
# each answer by $e^{r/\beta}$. Of two answers, the one that is one unit of reward better gains a factor of $e^{1/\beta}$ on
# the other.
#
# ### Exercise 5: the best policy at a price
# Difficulty ●●○○○ · importance ●●●●● · 6 minutes
#
# Return $\log \pi^*$ for all answers. Work with logarithms: $e^{r/\beta}$ overflows when $\beta$ is small.

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# A product becomes a sum. What makes exponentials add up to 1 is a softmax, and `log_softmax` is its logarithm.
# </details>


# %% tags=["exercise"]
def optimum(log_rho, r, beta):  # (Y,) (Y,) float -> (Y,) log-probabilities
    return ...


# %% tags=["solution"]
def optimum(log_rho, r, beta):  # (Y,) (Y,) float -> (Y,) log-probabilities
    return (log_rho + r / beta).log_softmax(-1)


# %% tags=["check"]
solved = checks.nb04_optimum(optimum)

# %% tags=["catch-up"]
if not solved:
    optimum = alternatives.optimal_logprobs

# %% [markdown]
# (You have met these policies before: the `moved` of section 5 were the optima for $1/\beta$ from 0 to 4.)
#
# Now the test. Start at the base model, climb $J_\beta$ by its exact gradient, and see where you arrive.

# %%
beta = 0.5
theta = base.clone().requires_grad_()
climb = torch.optim.Adam([theta], lr=0.05)
for _ in range(1_500):
    log_pi = answer_logprobs(theta)
    objective = (log_pi.exp() * (r - beta * (log_pi - log_rho))).sum()
    climb.zero_grad()
    (-objective).backward()
    climb.step()
log_z = (log_rho + r / beta).logsumexp(-1).item()
reached, best_policy = answer_logprobs(theta).detach(), optimum(log_rho, r, beta)
checks.nb04_equal("J, climbed, and beta log Z", objective, beta * log_z, tolerance=1e-4)
checks.nb04_equal("the policies", reached.exp(), best_policy.exp(), tolerance=1e-3)
likeliest(best_policy)

# %% [markdown]
# Notice that $\pi^*$ keeps some variety. A lower price pushes it towards the one best forecast, a higher one back to the base model. Here are
# all prices at once, with the other policies of this notebook, and one more: REINFORCE without its luck, which climbs by the exact gradient of the
# expected reward in steps of the same size. **Guess**: REINFORCE will lie below the optimum. Is noise the reason?


# %%
def without_luck(steps=150, lr=0.5):  # as in `reinforce`, but all 125 forecasts instead of 16
    theta, path = base.clone(), []
    for _ in range(steps):
        theta.requires_grad_()
        log_pi = answer_logprobs(theta)
        path.append((mean(log_pi.detach()), kl(log_pi.detach(), log_rho)))
        (gradient,) = torch.autograd.grad((log_pi.exp() * r).sum(), theta)
        theta = theta.detach() + lr * gradient
    return torch.tensor(path), log_pi.detach()  # (steps, 2): expected reward and KL


exact_path, exact_end = without_luck()

# %%
prices = [8, 4, 2, 1.4, 1, 0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15]
line = [optimum(log_rho, r, price) for price in prices]
_, ax = plt.subplots(figsize=(6.8, 3.6))
x, height = [kl(p, log_rho) for p in line], [mean(p) for p in line]
ax.plot(x, height, color=plots.BLACK, label="optimum, a price for each point")
x, height = zip(*[(kl(p, log_rho), mean(p)) for p in log_best.values()])
ax.plot(x, height, "s", color=plots.RED, label="best of n, n = 1 to 64")
path = runs["leave one out"][0].mean(-1)  # (steps, 2)
ax.plot(path[:, 1], path[:, 0], "--", color=plots.BLUE, label="REINFORCE, no price (mean of 40)")
ax.plot(exact_path[:, 1], exact_path[:, 0], ":", color=plots.GREEN, label="the same without luck")
ax.set(xlabel="KL from the reference, nats", ylabel="expected reward")
ax.set_title("Reward against distance")
ax.legend(loc="lower right");
# %% [markdown]
# *How to read it:* up is more reward, right is further from the base model. The black line is $\pi^*$ for prices from 8 (bottom left) to 0.15; no
# policy can lie above it. Best of n (squares) lies almost on it. REINFORCE (dashed) passes below: it pays more nats for the same reward.
# Noise is not the reason: climbing by the exact gradient, without any luck (dotted), takes much the same path. A step moves an answer in
# proportion to how often it is already written, so it favours the good answers that are common over the best ones, which are rare. You
# will see this picture on texts at the end of this notebook, and in notebook 07.

# %%
for log_b in log_best.values():  # each lies below the optimum of some price at its own KL
    assert min(price * kl(log_b, log_rho) + price * (log_rho + r / price).logsumexp(-1).item()
               for price in prices) >= mean(log_b) - 1e-9  # fmt: skip
assert exact_end.argmax() == final[0].argmax()  # no luck, and the second best all the same

# %% [markdown]
# ## 7. The price, estimated: k1, k2, k3
#
# For texts the KL is one more average over samples. Of each sampled token we know $\log\pi$ and $\log\rho$. Three numbers are made of them. The first
# two:
#
# $$k_1 = \log\pi - \log\rho,\qquad k_2 = \tfrac12 k_1^2.$$
#
# The first, the log ratio, is the definition of the KL without the average. It can be negative: that is noise, for the KL itself never is.
# The second is never negative, but its mean is not the KL. Can one have both? Since $\mathbb{E}_\pi[e^{-k_1}] = \sum_y \rho(y) = 1$, we know
# something with mean 0, namely how far $e^{-k_1}$ is from 1. Added to an estimate, it changes nothing on average, as a baseline does not.
# (The mean of a logarithm is not the logarithm of the mean: that of $e^{-k_1}$ is 1, whose logarithm is 0, while the mean of $-k_1$ is
# $-\mathrm{KL}$.)
#
# ### Exercise 6: the third estimator
# Difficulty ●●○○○ · importance ●●●○○ · 5 minutes
#
# Return $k_3$ for each token, from the log-probabilities that both models give it: the log ratio, plus the term with mean 0 that makes it never
# negative. Why is it never negative, and when is it 0? (Think of the tangent of $e^x$ at 0.)

# %% [markdown] tags=["hint"]
# <details><summary>Hint</summary>
#
# First compute $k_1$, per token. "How far $x$ is from 1" is $x - 1$. Of the two signs that the added term could have, one gives a number that is
# never negative: $e^x$ lies nowhere below its tangent, $1 + x$. Try both with $k_1 = 1$ and $k_1 = -1$.
# </details>


# %% tags=["exercise"]
def k3(logprobs, reference_logprobs):  # (B, R) (B, R) -> (B, R), nats
    return ...


# %% tags=["solution"]
def k3(logprobs, reference_logprobs):  # (B, R) (B, R) -> (B, R), nats
    k1 = logprobs - reference_logprobs
    return torch.exp(-k1) - 1 + k1


# %% tags=["check"]
solved = checks.nb04_k3(k3)

# %% tags=["catch-up"]
if not solved:
    k3 = tensors.kl_k3

# %%
kinds = {"k1": tensors.kl_k1, "k2": tensors.kl_k2, "k3": k3}
looks = {"k1": ("-", plots.BLUE), "k2": ("--", plots.RED), "k3": ("-.", plots.GREEN)}
_, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.2), sharex=True)
for name, kind in kinds.items():
    style, colour = looks[name]
    each_k = [kind(p, log_rho) for p in moved[1:]]
    means = torch.tensor([mean(p, k) for p, k in zip(moved[1:], each_k)])
    swings = [mean(p, (k - m) ** 2) ** 0.5 for p, k, m in zip(moved[1:], each_k, means)]
    left.plot(nats[1:], means / torch.tensor(nats[1:]), style, color=colour, label=name)
    right.loglog(nats[1:], swings, style, color=colour, label=name)
left.set(title="Mean", ylabel="multiple of the KL", ylim=(0, 3), xlabel="true KL, nats")
right.set(title="Deviation of one estimate", ylabel="nats", xlabel="true KL, nats")
left.legend()
right.legend();
# %% [markdown]
# *How to read it:* each point takes a whole answer for the sample. On the left, 1 is right. $k_1$ and $k_3$ lie on 1 everywhere; $k_2$ is right close
# by and wrong far away. On the right (both axes are logarithmic), lower is better. Close to the reference $k_1$ swings by far more than the KL it
# measures, and $k_2$ and $k_3$ are much quieter. Further out, beyond about a nat, $k_3$ swings the most: its $e^{-k_1} = \rho/\pi$ is an importance
# ratio, with all that section 5 said about those.
#
# ($k_3$ is never negative because $e^x$ lies nowhere below its tangent at 0, and it is 0 only where both models give the token the same probability.)

# %% [markdown]
# To *read* a KL near the reference, $k_3$ is the better one. (It is taken per token, where the distance is small even if 32 of them add up to
# several nats.) To *train* with it, what counts is the gradient, and there are two places for a penalty. It can be part of the **reward**: then it is a number, multiplied by $\nabla\log\pi$ as every reward is. Or it can be added to the
# **loss** and differentiated itself. Here is the average gradient of all six, compared with the true gradient of the KL, at a policy
# that has moved a little. **Guess**: which of the six are right?

# %%
at = torch.cat([base[:1] + torch.tensor([1.5, 1, 0.5, 0, 0]), base[1:]]).requires_grad_()
log_pi = answer_logprobs(at)
pi = log_pi.detach().exp()
(true_gradient,) = torch.autograd.grad((log_pi.exp() * (log_pi - log_rho)).sum(), at)
rows = {}
for name, kind in kinds.items():
    penalty = kind(answer_logprobs(at), log_rho)
    in_reward = (pi * penalty.detach() * answer_logprobs(at)).sum()
    for place, target in (("in the reward", in_reward), ("in the loss", (pi * penalty).sum())):
        (found,) = torch.autograd.grad(target, at, retain_graph=True)
        error = (found - true_gradient).norm() / true_gradient.norm()
        rows.setdefault(place, {})[name] = error.item()
wrong = pd.DataFrame(rows).T
wrong.round(3)

# %%
right_ones = wrong < 1e-9
assert right_ones.sum().sum() == 2 and right_ones.loc["in the reward", "k1"]
assert right_ones.loc["in the loss", "k2"] and abs(wrong.loc["in the loss", "k1"] - 1) < 1e-9

# %% [markdown]
# The table shows the error as a share of the true gradient; only two are 0. $k_1$ in the reward is exact: it is REINFORCE for $J_\beta$, with
# $r - \beta\,k_1$ as the reward, and PPO does the same. $k_1$ in the loss is off by the whole gradient: its average gradient is
# $\mathbb{E}_\pi[\nabla\log\pi] = 0$, as for any baseline, so such a penalty does *nothing* on average, and no curve of the loss shows it.
# ($k_2$ in the loss is right; $k_3$ in the loss follows the KL the other way round, $\mathrm{KL}(\rho\,|\,\pi)$.)
#
# ## 8. On texts
#
# You now have every piece. REINFORCE with the neighbours as baseline and the price inside the reward, on the real model, is a dozen lines:

# %%
pool = tasks.queries(task, tokenizer, 2_000, seed=100)


def step(policy, queries, optimizer, beta, dice, answers=8):
    rollout = sampling.sample(
        policy, queries, task.response_length, task.temperature, dice, answers=answers
    )
    with torch.no_grad():
        log_rho = sampling.replay(reference, rollout, task.temperature).logprobs  # (B, R)
    k1 = (rollout.logprobs - log_rho).sum(-1)  # (B,) nats per answer
    scores = score(rollout)
    advantages = leave_one_out((scores - beta * k1).view(-1, answers)).flatten()
    now = sampling.replay(policy, rollout, task.temperature).logprobs  # with gradients
    optimizer.zero_grad()
    policy_gradient_loss(now, advantages).backward()
    optimizer.step()
    return scores.mean().item(), k1.mean().item()


# %% [markdown]
# | machine | the next cell takes |
# |---|---|
# | one laptop core | about a minute |
# | `RLHF_PROFILE=quick` | seconds, and nothing is learned |

# %% tags=["slow"]
steps, beta, lr = (40 if size.name != "quick" else 3), 0.25, 1e-4
policy, dice, lines = models.Policy.load().to(device), seeded(0), []
optimizer = TensorFlowAdam(policy.parameters(), lr=lr)
for i in range(steps):
    optimizer.param_groups[0]["lr"] = lr * (1 - i / steps)
    rows = torch.arange(8 * i, 8 * (i + 1)) % len(pool)
    lines.append(step(policy, pool[rows].to(device), optimizer, beta, dice))
measured = evaluation.measure(policy, reference, asked.repeat(8), task, score, seed=7)
pd.DataFrame(lines, columns=["score", "KL, nats"]).iloc[[0, steps // 2, -1]].round(2)

# %% [markdown]
# Where does this policy lie in the picture of section 6? The pool of section 1 gives best of n, and the optimum by reweighting the samples.

# %%
name = ("score", "kl_nats_per_response", "series")
points = [(b, alternatives.best_of_kl_bound(n), "best of n") for n, b in zip(ns, best)]
points.append((measured["score"], measured["kl_nats_per_response"], "REINFORCE"))
bound = [evaluation.reweighted(scores, b) for b in (8, 4, 2, 1.4, 1, 0.7, 0.5, 0.4)]
plots.reward_against_kl([dict(zip(name, point)) for point in points], bound=bound);
# %% [markdown]
# *How to read it:* as before. The black line is the optimum, estimated from a limited number of samples a prompt, which puts it too low on
# the far right: there best of n, drawn at its *bound*, can cross it. One point is the model that you have just trained.

# %%
if size.name != "quick":
    here = measured["kl_nats_per_response"]
    at_most = max(b for n, b in zip(ns, best) if alternatives.best_of_kl_bound(n) <= max(here, 0.2))
    assert best[0] < measured["score"] < at_most
show.note(
    f"From {best[0]:.2f} to **{measured['score']:.2f}**, at {measured['kl_nats_per_response']:.1f} "
    f"nats, with {steps * 64:,} answers, each used once."
)

# %%
def texts(model):
    rollout = sampling.sample(model, asked[:3], task.response_length, task.temperature, seeded(8))
    return tasks.texts(task, rollout.responses, tokenizer), score(rollout).tolist()


table = {"end of the prompt": ["... " + t[-60:] for t in tasks.query_texts(asked[:3], tokenizer)]}
for label, model in (("before", reference), ("after", policy)):
    table[label], table[f"score {label}"] = texts(model)
pd.DataFrame(table).round(2)

# %% [markdown]
# Three answers prove nothing: two of these even score less than before. The mean of 256 above says more: a small gain at
# a high price, for best of n gets more for the same nats. The gradient was right, but noisy, and its path is not the cheapest (section 6). Each
# answer was used once, every token of it got the same credit, and the price was a guess. Notebook 05 improves on all three: several passes over each
# batch, kept safe by a ratio near 1; values that say which token earned the reward; a price that adapts itself. That is PPO.
#
# ## Recap
#
# - Best of n needs no training, lies close to the optimum, and pays at every answer. Its KL is at most $\log n - (n-1)/n$.
# - Samples have no gradient; their probabilities do. $\nabla J = \mathbb{E}_\pi[r\,\nabla\log\pi]$.
# - A baseline changes the noise, not the direction. The better it predicts, the less noise is left.
# - The importance ratio makes old samples serve a new policy. It is right on average at any distance, and useful only near 1.
# - RLHF maximises $\mathbb{E}[r] - \beta\,\mathrm{KL}$. Its optimum is $\pi^* \propto \rho\,e^{r/\beta}$.
# - $k_1$ belongs in the reward. $k_3$ is for reading. $k_1$ in the loss does nothing.
#
# | change one knob | and look at |
# |---|---|
# | the 5 points in `reinforce`, to 0 or 10 | the two bands in section 4 |
# | `batch` in `reinforce`, 4 or 64 | how wide the bands are |
# | `beta` in section 6, 2 or 0.1 | the table of likeliest forecasts |
#
# ## Questions
#
# 1. Somebody computes the loss of exercise 2 on texts from a *book*, all with reward 1. What does training do? Which method is this?
# 2. Why does the score of a single prompt say little about whether an answer was good? Which baseline would you use with only one answer to each prompt?
# 3. Best of n needs no $\beta$. What plays its part?
# 4. With $w$ for whole answers and 32 tokens, how near to 1 must the ratio of each token stay, if the product is to stay between 0.8 and 1.2?
# 5. What is $\pi^*$ if the reward is 1 for one answer and 0 for all others? What happens as $\beta$ goes to 0, and as it grows?
# 6. A colleague adds `beta * (logprobs - reference_logprobs).mean()` to the loss and reports that "the penalty has no effect". Why?
#
# ## Further reading
#
# - Williams 1992, [Simple statistical gradient-following algorithms for connectionist reinforcement learning](https://doi.org/10.1007/BF00992696): REINFORCE.
# - Ziegler et al. 2019, [Fine-Tuning Language Models from Human Preferences](https://arxiv.org/abs/1909.08593): section 2, equation 2, the reward with the price in it; the optimum appears in the experiments on mock sentiment.
# - Schulman 2020, [Approximating KL Divergence](http://joschu.net/blog/kl-approx.html): $k_1$, $k_2$ and $k_3$.
# - Beirami et al. 2024, [Theoretical guarantees on the best-of-n alignment policy](https://arxiv.org/abs/2401.01879): why the formula is a bound.
#
# **Next:** [05](05_ppo.ipynb) writes PPO out, line by line.
