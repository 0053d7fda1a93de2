"""What a model is asked about the items of a suite, and what it says: the words between prompts and the scorer.

Question("mmlu", "abstract_algebra/3", "abstract_algebra",
         (Pair("…Answer:", " A"), Pair("…Answer:", " B"), …))      -> (Likelihood(-1.31, tokens=1, greedy=True), …)
Completion("gsm8k", "17", "gsm8k", "Question: …\\nAnswer:", stop=("\\n\\n",), tokens_max=256)         -> " 42"
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """A text that is scored after another."""

    context: str
    """All that stands before, the shots among it; empty where the text is scored after BOS alone."""
    continuation: str
    """With its leading space."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked about one item."""

    task: str
    item: str
    prefix_group: str
    """Requests of one group begin with the same shots; how many tokens they share is found by the scorer."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.task}/{self.item}"


@dataclass(frozen=True, slots=True)
class Question(Request):
    """An item whose choices, or whose one right answer, are scored by log-probability."""

    pairs: tuple[Pair, ...]
    """One per choice. Mostly with one context; a task that fills the choice into the context has several."""


@dataclass(frozen=True, slots=True)
class Completion(Request):
    """An item that is answered by greedy generation."""

    context: str
    stop: tuple[str, ...]
    """The answer ends before the first of these."""
    tokens_max: int


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Of a continuation, given its context."""

    logprob: float
    """Summed over its tokens, in nats."""
    tokens: int
    greedy: bool
    """Each of its tokens was the most likely one."""
