"""What the commands read from the store: logs of pods that are gone, and reports.

The store is read as its user reads any S3: credentials and endpoint from AWS_* in the environment.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from cpt_api.layout import REPORT_PAGE, data_prefix, result_key
from cpt_api.result import Result
from cpt_api.values import Digest
from cpt_trainer.store import Store
from kubectl_cpt.errors import CliError
from kubectl_cpt.opened import address_of, opened


def print_logs(uri: str, namespace: str, trial: str, digest: Digest, environment: Mapping[str, str]) -> None:
    """The end of every process's output."""
    prefix = f"{data_prefix(namespace, digest)}logs/"
    with opened(address_of(uri, environment)) as store:
        keys = [entry.key for entry in store.list(prefix)]
        for key in keys:
            sys.stdout.write(f"--- {key.removeprefix(prefix)}\n{store.get(key).decode(errors='replace')}\n")
    if not keys:
        raise CliError(f"nothing below {uri}/{prefix}: no attempt of {trial} has ended yet, or it is another store")


def fetch_report(uri: str, namespace: str, folder: Path, environment: Mapping[str, str]) -> Path:
    """Everything that belongs to the page at `uri`, into that folder; the page there."""
    address, digest = address_of_report(uri, namespace)
    with opened(address_of(address, environment)) as store:
        for output in _result(store, result_key(namespace, digest)).outputs:
            data = store.get(data_prefix(namespace, digest) + output.key)
            if hashlib.sha256(data).hexdigest() != output.sha256:
                raise CliError(f"{output.key} of the report is not what was written: delete its trial, it is made anew")
            path = folder / output.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return folder / REPORT_PAGE


def address_of_report(uri: str, namespace: str) -> tuple[str, Digest]:
    """From the address of a page to that of its store, and to its trial."""
    digest = Digest.parse(uri.split("/")[-2])
    return uri.removesuffix(f"/{data_prefix(namespace, digest)}{REPORT_PAGE}"), digest


def _result(store: Store, key: str) -> Result:
    try:
        return Result.model_validate_json(store.get(key))
    except ValidationError as error:
        raise CliError(f"{key} is no result of a trial ({error.error_count()} errors): who wrote there?") from error
