"""RLHF on language models, small enough to read and real enough to use.

(this folder)   the algorithm, from `tensors` to `online`; start with `ppo.step`
runtime         what it stands on: runs, ranks, files, loading, optimizers, memory
labels          people label: store, sessions, cards, files, agreement, reports
course          what the notebooks need: profile, checks, plots, live view, playground
cli             `python -m rlhf_helpers`
"""

__version__ = "0.1.0"
