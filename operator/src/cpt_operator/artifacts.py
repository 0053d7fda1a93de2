"""The only module that reads the artifact store: `result.json` and `progress.json` of a trial.

Both were written under a user's identity: they are fetched up to a size, parsed strictly, and believed only when they
speak of the very trial that is asked about. An error is never "not found": a decision needs a definite answer.

    Present   it is there and believed          Refused      the store refuses the operator's credentials
    Absent    it is definitely not there        Unreachable  no answer
    Invalid   it is there and not believed

Before anything else is believed, a random key must be Absent: a store that answers 403 for what does not exist (no
right to List), or 200 for everything (a proxy's page), can give no definite answer. After a failure the store is left
alone for a pause that doubles from 1 to 30 seconds, and everybody gets the same answer meanwhile, so no outage makes a
hot loop. A refusal of a single object after that is remembered for that object only: no user's object can stop others.

Price: one thread per call in flight (at most 8), and up to 8 MiB of results (as bytes) kept by digest.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cpt_api.layout import PROGRESS_MAX_BYTES, RESULT_MAX_BYTES, progress_key, result_key
from cpt_api.model import sha256
from cpt_api.result import DocumentError, Progress, Result
from cpt_api.trial import CPTTrialSpec
from cpt_api.values import Digest
from cpt_operator.settings import ArtifactStore

D = TypeVar("D", Result, Progress)

_THREADS = 8
_CONNECT_SECONDS = 3
_READ_SECONDS = 5
_CALL_SECONDS = 20
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_KEPT_BYTES = 8 * 1024 * 1024
_REFUSED_STATUS = frozenset({401, 403})
_LATER_STATUS = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Present(Generic[D]):
    """It is there and believed."""

    document: D
    sha256: Digest
    """Of its bytes."""


@dataclass(frozen=True, slots=True)
class Absent:
    """It is definitely not there."""


@dataclass(frozen=True, slots=True)
class Invalid:
    """It is there and not believed."""

    message: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The store refuses the operator's credentials, or the bucket does not exist."""

    message: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The store does not answer; nothing is decided until it does."""

    message: str


Answer = Present[D] | Absent | Invalid | Refused | Unreachable
Failure = Refused | Unreachable
Fetched = bytes | Absent | Invalid | Failure

Observe = Callable[[str, str, float], None]
"""Called with verb, code and seconds of each request."""


class Artifacts:
    """Reads in a bounded pool of threads. One event loop."""

    def __init__(
        self,
        store: ArtifactStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        observe: Observe = lambda _verb, _code, _seconds: None,
        connect: Callable[[ArtifactStore], Any] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._observe = observe
        self._connect = connect or connect_s3
        self._client: Any = None
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")
        self._probe = asyncio.Lock()
        self._trusted = False  # a random key was Absent
        self._failure: Failure | None = None  # the store as a whole, until _paused_until
        self._paused_until = 0.0
        self._pause_seconds = 0.0
        self._refused: dict[str, tuple[float, Refused]] = {}  # single objects, with when to ask again
        self._kept: OrderedDict[tuple[str, Digest], tuple[Present[Result], int]] = OrderedDict()  # oldest use first
        self._kept_bytes = 0

    async def result(self, namespace: str, digest: Digest, spec: CPTTrialSpec) -> Answer[Result]:
        """The committed result of the trial with that (resolved) spec and digest."""
        place = (namespace, digest)
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place][0]
        fetched = await self._fetch(result_key(namespace, digest), RESULT_MAX_BYTES)
        if not isinstance(fetched, bytes):
            return fetched
        try:
            present = Present(Result.believed(fetched, digest, spec), sha256(fetched))
        except DocumentError as error:
            return Invalid(f"result.json of {digest.short}…: {error}")
        self._keep(place, present, len(fetched))
        return present

    async def progress(self, namespace: str, digest: Digest) -> Answer[Progress]:
        """How far the trial's present attempt is; never kept."""
        fetched = await self._fetch(progress_key(namespace, digest), PROGRESS_MAX_BYTES)
        if not isinstance(fetched, bytes):
            return fetched
        try:
            return Present(Progress.believed(fetched, digest), sha256(fetched))
        except DocumentError as error:
            return Invalid(f"progress.json of {digest.short}…: {error}")

    async def check(self) -> Absent | Failure:
        """Whether the store can be used at all; Absent is the good answer."""
        async with self._probe:
            if self._failure is not None and self._clock() < self._paused_until:
                return self._failure
            if self._trusted:
                return Absent()
            answer = _expect_absent(await self._get(f"trials/.probe/{secrets.token_hex(16)}", 1))
            if isinstance(answer, Absent):
                self._trusted = True
            else:
                self._pause(answer)
            return answer

    async def close(self) -> None:
        """Give the threads back; calls in flight end by their own timeouts."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _fetch(self, key: str, limit_bytes: int) -> Fetched:
        usable = await self.check()
        if not isinstance(usable, Absent):
            return usable
        until, refused = self._refused.get(key, (0.0, None))
        if refused is not None and self._clock() < until:
            return refused
        fetched = await self._get(key, limit_bytes)
        if isinstance(fetched, Unreachable):
            self._pause(fetched)
            return fetched
        self._failure, self._pause_seconds = None, 0.0
        self._refused.pop(key, None)
        if isinstance(fetched, Refused):
            self._refused[key] = (self._clock() + _LONGEST_PAUSE_SECONDS, fetched)
        return fetched

    async def _get(self, key: str, limit_bytes: int) -> Fetched:
        began = self._clock()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                code, fetched = await loop.run_in_executor(self._pool, self._get_blocking, key, limit_bytes)
        except TimeoutError:
            code, fetched = "timeout", Unreachable(f"no answer of the artifact store within {_CALL_SECONDS} s")
        self._observe("get", code, self._clock() - began)
        return fetched

    def _get_blocking(self, key: str, limit_bytes: int) -> tuple[str, Fetched]:
        """The HTTP code, or what happened instead of one, and the answer. Runs in a thread."""
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        from urllib3.exceptions import HTTPError

        try:
            if self._client is None:
                self._client = self._connect(self._store)
            # one byte more than allowed tells that there is more, without reading it
            body = self._client.get_object(Bucket=self._store.bucket, Key=key)["Body"]
            try:
                return "200", bytes(body.read(limit_bytes + 1))
            finally:
                body.close()
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            return str(status), _refusal(status, dict(error.response.get("Error", {})), self._store.bucket)
        except NoCredentialsError:
            return "credentials", Refused(
                "the operator has no credentials for the artifact store: set AWS_ACCESS_KEY_ID"
            )
        except (BotoCoreError, HTTPError, OSError) as error:
            return "unreachable", Unreachable(f"the artifact store does not answer: {error}"[:500])

    def _pause(self, failure: Failure) -> None:
        self._failure = failure
        self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2 * self._pause_seconds))
        self._paused_until = self._clock() + self._pause_seconds

    def _keep(self, place: tuple[str, Digest], present: Present[Result], size_bytes: int) -> None:
        self._kept[place] = (present, size_bytes)
        self._kept_bytes += size_bytes
        while self._kept_bytes > _KEPT_BYTES:
            _, (_, freed_bytes) = self._kept.popitem(last=False)
            self._kept_bytes -= freed_bytes


def connect_s3(store: ArtifactStore) -> Any:
    """A client with timeouts of seconds: a reconcile must not hang. Retries are the work queue's."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=_READ_SECONDS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=_THREADS,
        s3={"addressing_style": "path" if store.path_style else "auto"},
    )
    return boto3.session.Session().client("s3", endpoint_url=store.endpoint, region_name=store.region, config=config)


def _refusal(status: int, error: dict[str, Any], bucket: str) -> Absent | Invalid | Failure:
    """What an HTTP status other than 200 means."""
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))[:300]
    if code == "NoSuchBucket":
        return Refused(f"the artifact store has no bucket {bucket!r}")
    if status == 404:
        return Absent()
    if status in _REFUSED_STATUS:
        return Refused(f"the artifact store refuses the operator's credentials: {code} {message}".rstrip())
    if 400 <= status < 500 and status not in _LATER_STATUS:
        return Invalid(f"the artifact store answers {status} {code} {message}".rstrip())
    return Unreachable(f"the artifact store answers {status} {code} {message}".rstrip())


def _expect_absent(fetched: Fetched) -> Absent | Failure:
    """The probe's answer: only Absent shows that "not found" will mean what it says."""
    if isinstance(fetched, bytes):
        return Refused("the artifact store returns an object for a random key: is the endpoint an S3?")
    if isinstance(fetched, Refused):
        return Refused(f"{fetched.message}; a random key must give 404, which takes the right to List")
    if isinstance(fetched, Invalid):
        return Refused(f"{fetched.message}: is the endpoint an S3?")
    return fetched
