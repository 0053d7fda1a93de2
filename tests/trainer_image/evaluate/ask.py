"""One rank of several that answer the same questions; started by test_place.py.

MODEL STORE PLACEMENT PRECISION ANSWERS
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from asking import some_completions, some_questions
from cpt_api.trial import Precision, Resources
from cpt_trainer.base import read_files
from cpt_trainer.evaluate.blocks import Geometry
from cpt_trainer.evaluate.place import Placement, place
from cpt_trainer.evaluate.scorer import Scorer
from cpt_trainer.evaluate.shards import Shards
from cpt_trainer.parallel import TYPES
from cpt_trainer.process import join
from cpt_trainer.store import Address, open_address
from cpt_trainer.tokenizer import tokenizer_of
from cpt_trainer.weights import open_weights


def main(model: str, store: str, placement: str, precision: str, answers: str) -> None:
    """Answer, and write down what this rank has in the end."""
    process = join(Resources())
    folder = open_address(Address(model))
    files, how = read_files(folder, ""), Precision(precision)
    trainee = place(files, open_weights(folder), process, how, Placement(placement))
    keeper = Shards(open_address(Address(store)), "", process, Placement(placement))
    scorer = Scorer(trainee, tokenizer_of(files), process.device, TYPES[how], Geometry(40, 256), keeper)
    questions = scorer.likelihoods(some_questions()[::4])
    texts = scorer.completions(some_completions()[::5])
    content = {"questions": [[asdict(one) for one in row] for row in questions], "texts": texts}
    Path(answers, f"{process.rank}.json").write_text(json.dumps(content))
    process.leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
