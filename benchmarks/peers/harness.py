"""What lm-eval's Hugging Face backend says to given requests; run with the interpreter that has lm-eval.

    python benchmarks/peers/harness.py MODEL REQUESTS.json ANSWERS.json [BATCH_SIZE [no-cache]]

    REQUESTS    {"pairs": [[context, continuation], ...], "completions": [[context, [stop, ...], tokens], ...]}
    ANSWERS     {"pairs": [[logprob, greedy], ...], "completions": [text, ...]}

Its last line says the CPU seconds that the answers took, tokenisation included, without imports and loading.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM


def main(model: str, requests: str, answers: str, batch_size: str = "1", cache: str = "cache") -> None:
    """Score, and complete."""
    lm = HFLM(
        pretrained=model, device="cpu", dtype="float32", batch_size=int(batch_size), logits_cache=cache == "cache"
    )
    asked = json.loads(Path(requests).read_text())
    pairs = [Instance("loglikelihood", {}, (context, continuation), 0) for context, continuation in asked["pairs"]]
    completions = [
        Instance("generate_until", {}, (context, {"until": stop, "max_gen_toks": tokens, "do_sample": False}), 0)
        for context, stop, tokens in asked.get("completions", [])
    ]
    begin = time.process_time()
    scored = lm.loglikelihood(pairs, disable_tqdm=True) if pairs else []
    texts = lm.generate_until(completions, disable_tqdm=True) if completions else []
    seconds = time.process_time() - begin
    Path(answers).write_text(json.dumps({"pairs": scored, "completions": texts}))
    print(json.dumps({"cpuSeconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
