"""One JSON line per event on standard error: ours and those of the libraries alike.

{"event": "trial", "trial": "sweep-train-0123456789", "reason": "Running", "level": "info", "timestamp": "…"}
"""

from __future__ import annotations

import logging
import sys

import structlog

_LIBRARIES = {
    "kopf": logging.WARNING,
    "kopf.objects": logging.ERROR,
    "aiohttp": logging.WARNING,
    "botocore": logging.WARNING,
    "asyncio": logging.WARNING,
}
"""kopf.objects speaks of every event of every object."""


def configure() -> None:
    """For the whole process."""
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(sort_keys=False)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(sort_keys=False), foreign_pre_chain=shared
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name, level in _LIBRARIES.items():
        logging.getLogger(name).setLevel(level)
