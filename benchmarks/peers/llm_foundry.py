"""llm-foundry's converter, called as its command line calls it; runs in an environment that has llm-foundry.

    python -m benchmarks.peers.llm_foundry TEXTS.jsonl TOKENIZER-FOLDER OUT END-OF-DOCUMENT

Imports are not timed: they take ten seconds, and nobody converts for ten seconds. Compression is off, which is in the
converter's favour. OUT/tokens.bin gets its samples in order, as int32, for the comparison.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from llmfoundry.command_utils import convert_dataset_json_from_args  # type: ignore[import-not-found]
from streaming import StreamingDataset  # type: ignore[import-not-found]

SEQUENCE_LENGTH = 2048


def main(texts: str, tokenizer: str, out: str, end: str) -> None:
    """Convert, then read back what was written."""
    cpu, begin = time.process_time(), time.perf_counter()
    convert_dataset_json_from_args(
        path=texts,
        out_root=f"{out}/mds",
        compression=None,
        concat_tokens=SEQUENCE_LENGTH,
        split="train",
        tokenizer=tokenizer,
        eos_text=end,
    )
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    samples = StreamingDataset(local=f"{out}/mds", batch_size=1)
    with Path(out, "tokens.bin").open("wb") as file:
        file.writelines(np.asarray(samples[number]["tokens"]).astype("<i4").tobytes() for number in range(len(samples)))
    print(json.dumps({"seconds": seconds, "cpuSeconds": cpu_seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
