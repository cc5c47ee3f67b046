"""Floor 5: what one clicks on in the notebooks: cards to label and to judge, a playground for samples, a live view of training.

Thin skins over plain objects that are tested without a browser. Where no widget can be shown a card asks in plain text, and a headless
run (RLHF_HEADLESS=1) gets pictures and never waits for anybody.
"""

from rlhf_helpers.widgets.cards import Face, StillCard, judge, label, me
from rlhf_helpers.widgets.live import LiveView, watch
from rlhf_helpers.widgets.playground import Playground, Sample, Token, playground
from rlhf_helpers.widgets.texts import QUESTIONS, RUBRICS, headless, visible

__all__ = [
    "label", "judge", "me", "playground", "watch", "visible", "headless", "QUESTIONS", "RUBRICS",
    "Face", "StillCard", "Playground", "Sample", "Token", "LiveView",
]  # fmt: skip
