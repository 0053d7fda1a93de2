"""Where things lie in the artifact store. Keys are always derived, never read from a document.

Small documents and bulk have different first parts, so that prefixes alone make the rights: the operator may Get
`trials/*` and List; a namespace's trials may read and write `trials/<namespace>/*` and `data/<namespace>/*`.
"""

from __future__ import annotations

from cpt_api.values import Digest

RESULT_MAX_BYTES = 256 * 1024
PROGRESS_MAX_BYTES = 16 * 1024
EXPORT = "export/"
"""Where a Train trial leaves its end, and a Merge trial its output, in Hugging Face layout; below its data prefix."""
REPORT_PAGE = "report.html"
"""Of a Report trial, below its data prefix."""


def result_key(namespace: str, digest: Digest) -> str:
    """The commit marker: a trial without it has not happened."""
    return f"trials/{namespace}/{digest}/result.json"


def export_prefix(namespace: str, digest: Digest) -> str:
    """A model in Hugging Face layout, of a trial that writes one. Ends with a slash."""
    return f"{data_prefix(namespace, digest)}{EXPORT}"


def progress_key(namespace: str, digest: Digest) -> str:
    """How far the present attempt is."""
    return f"trials/{namespace}/{digest}/progress.json"


def data_prefix(namespace: str, digest: Digest) -> str:
    """Bulk: prepared data, checkpoints, item tables, logs. Ends with a slash."""
    return f"data/{namespace}/{digest}/"
