"""The artifact store as a person reads it: a folder, or S3 with endpoint and credentials from AWS_*."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cpt_trainer.errors import TrainerExit
from cpt_trainer.store import Address, Store, open_address
from kubectl_cpt.errors import CliError

_PATIENCE_SECONDS = 60.0
"""A store that does not answer for so long ends the command; trials ride out longer outages themselves."""


@contextmanager
def opened(address: Address) -> Iterator[Store]:
    """For a `with` statement: what goes wrong with the store inside it is a CliError."""
    try:
        yield open_address(address, _PATIENCE_SECONDS)
    except TrainerExit as error:
        where = "; its endpoint and credentials come from AWS_* in the environment" if "://" in address.uri else ""
        raise CliError(f"the store: {error}{where}") from error


def address_of(store: str, environment: Mapping[str, str], source_root: Path | None = None) -> Address:
    """Of --store, with all that the environment says about S3."""
    if source_root and not source_root.is_dir():
        raise CliError(f"--source-root {source_root}: no such folder")
    address = Address.of(store.rstrip("/") if "://" in store else str(Path(store).absolute()), environment)
    return replace(address, sources=str(source_root.absolute())) if source_root else address
