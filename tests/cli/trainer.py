"""A stand-in for `cpt-trainer` that takes milliseconds: it commits what a good trial would, or ends as it is told.

Faults come from a file named by FAULTS, one JSON object: word in the trial's name or type -> exit codes of its first
attempts. Code 0 there means: wait for SIGTERM, then exit 143.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from cpt_api.layout import data_prefix, result_key
from cpt_api.model import canonical_json
from cpt_api.trial import TrialDocument
from cpt_trainer.store import open_store
from make import make_result


def main() -> None:
    """As `cpt-trainer VERB --trial FILE --store URI`."""
    verb, _, trial, _, uri = sys.argv[1:]
    document = TrialDocument.model_validate_json(Path(trial).read_text())
    store = open_store(uri)
    store.put(
        f"{data_prefix(document.namespace, document.digest)}attempts/{document.attempt}",
        f"{verb} {os.getpid()}".encode(),
    )
    code = fault(document)
    if code == 0:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        while True:
            time.sleep(60)
    if code is not None:
        words = {"reason": "ToldSo", "message": f"told to exit with {code}"}
        sys.stderr.write(f"some output\n{json.dumps(words)}\n")
        sys.exit(code)
    result = make_result(document.spec, attempt=document.attempt)
    store.put_if_absent(result_key(document.namespace, document.digest), canonical_json(result.to_dict()))


def fault(document: TrialDocument) -> int | None:
    """The exit code that this attempt shall have."""
    faults = json.loads(Path(os.environ["FAULTS"]).read_text()) if "FAULTS" in os.environ else {}
    for word, codes in faults.items():
        if word in (document.name, document.spec.type) and document.attempt <= len(codes):
            return int(codes[document.attempt - 1])
    return None


if __name__ == "__main__":
    main()
