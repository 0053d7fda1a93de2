"""The one seam to storage: objects by key, below a bucket's prefix (S3) or below a folder.

    store = open_store("s3://cpt")                          or open_store("/tmp/cpt")
    store.put("data/a/x.bin", b"0123456789")
    store.get_range("data/a/x.bin", 2, 3)                   b"234"
    store.put_if_absent("trials/a/result.json", b"mine")    True: this writer, and no later one, made it

Three answers are never mixed up: a key that is not there (MissingError), a store that refuses us (RefusedError), and
one that gives no good answer (UnreachableError, only after the deadline: an outage of minutes is ridden out).

Price: a call is one HTTP request, and holds up its caller for as long as the deadline when the store is down.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog
import tenacity

from cpt_trainer.errors import (
    ConfigError,
    DamagedError,
    MissingError,
    RefusedError,
    StorageError,
    TrainerExit,
    UnreachableError,
)

if TYPE_CHECKING:
    from botocore.exceptions import ClientError
    from botocore.loaders import Loader
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestTypeDef

log = structlog.get_logger()
T = TypeVar("T")

DEADLINE_SECONDS = 600.0
"""Of one call with all its repetitions."""
_LONGEST_PAUSE_SECONDS = 10.0
_CONNECT_SECONDS = 5
_READ_SECONDS = 60
_PART_BYTES = 64 * 1024 * 1024
"""Of multipart uploads: S3 allows 10,000 parts, so an object may have 640 GB."""
_STREAM_PART_BYTES = 8 * 1024 * 1024
"""Of an upload whose bytes are made on the way: it is held in memory, and an object may have 80 GB."""
_THREADS = 8
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing."""

    key: str
    size: int
    etag: str
    """Changes whenever the content does; not a content hash."""


@dataclass(frozen=True, slots=True)
class Address:
    """All that another process needs to open the same store; credentials come from its environment."""

    uri: str
    """`s3://bucket[/prefix]` or a folder."""
    endpoint: str | None = None
    """Of S3; AWS_ENDPOINT_URL_S3, or AWS itself, when absent."""
    path_style: bool = True
    """`endpoint/bucket/key`, which every S3 understands, or `bucket.endpoint/key`."""
    sources: str | None = None
    """A folder that stands for S3 where users' own files are read: s3://bucket/key is FOLDER/key there."""

    @classmethod
    def of(cls, uri: str, environment: Mapping[str, str]) -> Address:
        """With all that the environment says about S3."""
        return cls(
            uri=uri,
            endpoint=environment.get("AWS_ENDPOINT_URL_S3"),
            path_style=environment.get("CPT_STORE_PATH_STYLE", "true") != "false",
            sources=environment.get("CPT_SOURCES"),
        )


class Store(Protocol):
    """What both kinds of store can do. Keys are relative to the store's address and have no leading slash."""

    @property
    def address(self) -> Address:
        """Where it is."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes; an object that ends before is damaged."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object; readers see the old one or the new one."""
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """True when the key holds `data` afterwards, False when it holds something else, which stays.

        Equal content counts as ours: after a lost answer nobody could tell whose write it was.
        """
        ...

    def put_file(self, key: str, path: Path) -> None:
        """As `put`, from a file of any size."""
        ...

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """As `put`, from bytes that are made on the way; at most one part of them is held."""
        ...

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key starts with `prefix`, by key."""
        ...

    def stat(self, key: str) -> Entry:
        """Size and ETag of one object."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is removed already."""
        ...


def open_store(uri: str, endpoint: str | None = None, *, path_style: bool = True) -> Store:
    """The store at `s3://bucket[/prefix]`, or in a folder."""
    return open_address(Address(uri, endpoint, path_style))


def open_address(address: Address, deadline_seconds: float = DEADLINE_SECONDS) -> Store:
    """The store at that address."""
    if "://" not in address.uri:
        return FolderStore(Path(address.uri), address.sources)
    return S3Store(address, deadline_seconds)


def require_conditional_writes(store: Store, key: str) -> None:
    """Refuse a store that does not honour `If-None-Match`: there two attempts could both commit."""
    store.put(key, b"first")
    try:
        if store.put_if_absent(key, b"second"):
            raise ConfigError(
                f"the store at {store.address.uri} replaced an object in spite of 'If-None-Match: *': use one with "
                "conditional writes, such as AWS S3, SeaweedFS or MinIO"
            )
    finally:
        store.delete(key)


def sha256_of(store: Store, key: str) -> str:
    """SHA-256 of an object as the store gives it back, read in pieces."""
    digest = hashlib.sha256()
    size = store.stat(key).size
    for start in range(0, size, _STREAM_PART_BYTES):
        digest.update(store.get_range(key, start, min(_STREAM_PART_BYTES, size - start)))
    return digest.hexdigest()


# --- S3 -------------------------------------------------------------------------------------------------------------


class S3Store:
    """A bucket's prefix on S3 or anything that speaks it. Safe to share between threads."""

    def __init__(self, address: Address, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        scheme, _, path = address.uri.partition("://")
        self._bucket, _, prefix = path.strip("/").partition("/")
        if scheme != "s3" or not self._bucket:
            raise ConfigError(f"store {address.uri!r}: expected s3://bucket, s3://bucket/prefix or a folder")
        self._prefix = f"{prefix}/" if prefix else ""
        self._address = address
        self._client: S3Client | None = None  # built at the first call, and again when its credentials expired
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(UnreachableError),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=_LONGEST_PAUSE_SECONDS),
            stop=tenacity.stop_before_delay(deadline_seconds),
            before_sleep=_say_retry,
            reraise=True,
        )

    @property
    def address(self) -> Address:
        """Where it is."""
        return self._address

    def get(self, key: str) -> bytes:
        """The whole object."""
        return self._call("GET", key, lambda s3: s3.get_object(**self._at(key))["Body"].read())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes."""
        if length == 0:
            return b""
        wanted = f"bytes={start}-{start + length - 1}"
        data = self._call("GET", key, lambda s3: s3.get_object(**self._at(key), Range=wanted)["Body"].read())
        return _whole(data, key, start, length)

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object."""
        self._call("PUT", key, lambda s3: s3.put_object(**self._at(key), Body=data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key holds other content."""

        def write(s3: S3Client) -> bool:
            from botocore.exceptions import ClientError

            try:
                s3.put_object(**self._at(key), Body=data, IfNoneMatch="*")
            except ClientError as error:
                if _status(error) != 412:
                    raise
                return False
            return True

        return self._call("PUT", key, write) or self.get(key) == data

    def put_file(self, key: str, path: Path) -> None:
        """Upload a file in parts; boto repeats a part, `_call` the whole."""
        from boto3.s3.transfer import TransferConfig

        config = TransferConfig(
            multipart_threshold=_PART_BYTES,
            multipart_chunksize=_PART_BYTES,
            max_concurrency=_THREADS,
            preferred_transfer_client="classic",  # the CRT client takes one process per host and drops endpoints
        )
        self._call("PUT", key, lambda s3: s3.upload_file(str(path), **self._at(key), Config=config))

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """Upload in parts; each is repeated alone. Where the bytes break off nothing is left."""
        upload = self._call("PUT", key, lambda s3: s3.create_multipart_upload(**self._at(key)))["UploadId"]
        part_of = {**self._at(key), "UploadId": upload}
        try:
            done = [
                {"PartNumber": number, "ETag": self._put_part(key, part_of, number, data)}
                for number, data in enumerate(_joined(chunks, _STREAM_PART_BYTES), start=1)
            ]
            end: Any = {"Parts": done}
            self._call("PUT", key, lambda s3: s3.complete_multipart_upload(**part_of, MultipartUpload=end))
        except StorageError:
            raise  # who could not be reached for ten minutes is not asked to clean up
        except BaseException:
            self._call("DELETE", key, lambda s3: s3.abort_multipart_upload(**part_of))
            raise

    def _put_part(self, key: str, part_of: Any, number: int, data: bytes) -> str:
        return self._call("PUT", key, lambda s3: s3.upload_part(**part_of, PartNumber=number, Body=data))["ETag"]

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key starts with `prefix`, a page at a time."""
        query: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        while True:
            page = self._call("LIST", prefix, lambda s3: s3.list_objects_v2(**query))
            for found in page.get("Contents", ()):
                yield Entry(found["Key"].removeprefix(self._prefix), found["Size"], found["ETag"].strip('"'))
            if not page["IsTruncated"]:
                return
            query["ContinuationToken"] = page["NextContinuationToken"]

    def stat(self, key: str) -> Entry:
        """Size and ETag of one object."""
        head = self._call("HEAD", key, lambda s3: s3.head_object(**self._at(key)))
        return Entry(key, head["ContentLength"], head["ETag"].strip('"'))

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._call("DELETE", key, lambda s3: s3.delete_object(**self._at(key)))

    def _at(self, key: str) -> Any:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _call(self, verb: str, key: str, act: Callable[[S3Client], T]) -> T:
        """Let `act` talk to S3, again and again until it got a good answer, a definite no, or the deadline is over."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        what = f"{verb} s3://{self._bucket}/{self._prefix}{key}"

        def attempt() -> T:
            try:
                return act(self._connected())
            except ClientError as error:
                raise self._meaning(error, what) from error
            except S3UploadFailedError as error:  # boto hides the answer of an upload in a text
                if not isinstance(error.__context__, ClientError):
                    raise UnreachableError(f"{what}: {error}") from error
                raise self._meaning(error.__context__, what) from error
            except NoCredentialsError as error:
                raise RefusedError(
                    f"{what}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from error
            except BotoCoreError as error:
                raise UnreachableError(f"{what}: {error}") from error

        return self._retrying.copy()(attempt)

    def _connected(self) -> S3Client:
        """The client: its own session, so that it reads the credentials anew after they expired."""
        if self._client is None:
            import boto3.session
            import botocore.config
            import botocore.session

            config = botocore.config.Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"mode": "standard", "total_max_attempts": 2},
                max_pool_connections=4 * _THREADS,
                s3={"addressing_style": "path" if self._address.path_style else "virtual"},
            )
            core = botocore.session.Session()
            core.register_component("data_loader", _definitions())
            session = boto3.session.Session(botocore_session=core)
            region = session.region_name or "us-east-1"  # some stores have no regions, but signatures name one
            self._client = session.client("s3", endpoint_url=self._address.endpoint, config=config, region_name=region)
        return self._client

    def _meaning(self, error: ClientError, what: str) -> TrainerExit:
        """What an error answer of S3 means to us."""
        code, status = error.response["Error"].get("Code", ""), _status(error)
        found = f"{what}: {status} {code} {error.response['Error'].get('Message', '')}".rstrip()
        if code in _EXPIRED:
            self._client = None
            return UnreachableError(found)
        if status in (401, 403):
            return RefusedError(f"{found}; check the credentials and what they may do there")
        if status == 404:
            return MissingError(found)
        if status == 416:
            return DamagedError(f"{found}: the object ends before that range")
        if status in (408, 409, 425, 429) or status >= 500:
            return UnreachableError(found)
        return StorageError(found)


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


@functools.cache
def _definitions() -> Loader:
    """What boto knows about S3, for all clients: 12 MB and a tenth of a second."""
    from botocore.loaders import create_loader

    return create_loader()


def _say_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("store_retry", attempt=state.attempt_number, pause_seconds=state.upcoming_sleep, error=str(error))


def _joined(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in parts of `size`; the last may be shorter."""
    held = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        while len(held) + len(view) >= size:
            room = size - len(held)
            held += view[:room]
            view = view[room:]
            yield bytes(held)
            held.clear()
        held += view
    if held:
        yield bytes(held)


def _whole(data: bytes, key: str, start: int, length: int) -> bytes:
    if len(data) != length:
        raise DamagedError(f"{key}: bytes {start} to {start + length} are wanted, it ends at {start + len(data)}")
    return data


# --- folder ---------------------------------------------------------------------------------------------------------

_UNFINISHED = ".unfinished-"
"""Begins the name of a file that is being written; nobody sees it under its key before it is whole."""


class FolderStore:
    """A folder on a local or shared file system."""

    def __init__(self, root: Path, sources: str | None = None) -> None:
        self._root = root.absolute()
        self._sources = sources

    @property
    def address(self) -> Address:
        """Where it is."""
        return Address(str(self._root), sources=self._sources)

    def get(self, key: str) -> bytes:
        """The whole object."""
        return self._read(key, lambda path: path.read_bytes())

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes."""

        def read(path: Path) -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(length)

        return _whole(self._read(key, read), key, start, length)

    def put(self, key: str, data: bytes) -> None:
        """Write or replace an object."""
        self._write(key, lambda unfinished: unfinished.write_bytes(data), Path.replace)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Write an object unless the key holds other content. A hard link is made whole, and only where none is."""
        try:
            self._write(key, lambda unfinished: unfinished.write_bytes(data), os.link)
        except FileExistsError:
            return self.get(key) == data
        return True

    def put_file(self, key: str, path: Path) -> None:
        """Copy a file."""
        self._write(key, lambda unfinished: shutil.copyfile(path, unfinished), Path.replace)

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """Write one after another."""

        def fill(unfinished: Path) -> None:
            with unfinished.open("wb") as file:
                file.writelines(chunks)

        self._write(key, fill, Path.replace)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object whose key starts with `prefix`."""
        folder = self._root / prefix.rpartition("/")[0]
        keys = (path.relative_to(self._root).as_posix() for path in folder.rglob("*") if path.is_file())
        for key in sorted(k for k in keys if k.startswith(prefix) and not Path(k).name.startswith(_UNFINISHED)):
            yield self.stat(key)

    def stat(self, key: str) -> Entry:
        """Size and time of change."""

        def look(path: Path) -> os.stat_result:
            if path.is_dir():
                raise IsADirectoryError(path)
            return path.stat()

        found = self._read(key, look)
        return Entry(key, found.st_size, f"{found.st_mtime_ns:x}-{found.st_size:x}")

    def delete(self, key: str) -> None:
        """Remove an object; empty folders stay."""
        (self._root / key).unlink(missing_ok=True)

    def _read(self, key: str, read: Callable[[Path], T]) -> T:
        try:
            return read(self._root / key)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise MissingError(f"{self._root / key}: no such file") from error
        except PermissionError as error:
            raise RefusedError(f"{self._root / key}: {error.strerror}") from error
        except OSError as error:
            raise UnreachableError(f"{self._root / key}: {error}") from error

    def _write(self, key: str, fill: Callable[[Path], object], appear: Callable[[Path, Path], object]) -> None:
        """Fill a file beside its place, then let it `appear` there at once."""
        path = self._root / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
            os.close(handle)
            unfinished = Path(name)
            try:
                fill(unfinished)
                unfinished.chmod(0o644)
                appear(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
        except FileExistsError:
            raise
        except PermissionError as error:
            raise RefusedError(f"{path}: {error.strerror}") from error
        except OSError as error:
            raise UnreachableError(f"{path}: {error}") from error


# --- faults ---------------------------------------------------------------------------------------------------------


@dataclass
class FaultyStore:
    """A store whose writes fail from the `fail_at`-th on, `failures` times: for tests of what a fault leaves behind."""

    inner: Store
    fail_at: int
    """1 is the first write."""
    failures: int = 1
    writes: int = field(default=0, init=False)
    """Writes asked for so far: put, put_if_absent, put_file, put_stream and delete."""

    @property
    def address(self) -> Address:
        """Of the store behind it."""
        return self.inner.address

    def get(self, key: str) -> bytes:
        """As the store behind it."""
        return self.inner.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """As the store behind it."""
        return self.inner.get_range(key, start, length)

    def list(self, prefix: str) -> Iterator[Entry]:
        """As the store behind it."""
        return self.inner.list(prefix)

    def stat(self, key: str) -> Entry:
        """As the store behind it."""
        return self.inner.stat(key)

    def put(self, key: str, data: bytes) -> None:
        """Counted."""
        self._count(key)
        self.inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Counted."""
        self._count(key)
        return self.inner.put_if_absent(key, data)

    def put_file(self, key: str, path: Path) -> None:
        """Counted."""
        self._count(key)
        self.inner.put_file(key, path)

    def put_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """Counted."""
        self._count(key)
        self.inner.put_stream(key, chunks)

    def delete(self, key: str) -> None:
        """Counted."""
        self._count(key)
        self.inner.delete(key)

    def _count(self, key: str) -> None:
        self.writes += 1
        if self.fail_at <= self.writes < self.fail_at + self.failures:
            raise UnreachableError(f"write {self.writes}, of {key}, fails as asked")
