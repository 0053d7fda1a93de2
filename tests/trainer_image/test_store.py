"""One contract for both kinds of store, the S3 one against a real server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cpt_trainer.errors import ConfigError, DamagedError, MissingError, RefusedError, UnreachableError
from cpt_trainer.store import (
    Address,
    FaultyStore,
    FolderStore,
    S3Store,
    Store,
    open_address,
    open_store,
    require_conditional_writes,
    sha256_of,
)


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.processes)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of either kind."""
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    return open_store(request.getfixturevalue("s3_uri"))


class TestContract:
    """What holds for every store."""

    def test_reads_what_was_put(self, store: Store) -> None:
        """An object comes back byte for byte."""
        store.put("a/b", bytes(range(256)))
        assert store.get("a/b") == bytes(range(256))

    def test_put_replaces(self, store: Store) -> None:
        """The last put wins."""
        store.put("a", b"old")
        store.put("a", b"new")
        assert store.get("a") == b"new"

    @pytest.mark.parametrize(("start", "length", "want"), [(0, 3, b"012"), (7, 3, b"789"), (4, 0, b"")])
    def test_range(self, store: Store, start: int, length: int, want: bytes) -> None:
        """A range is exactly the bytes asked for."""
        store.put("a", b"0123456789")
        assert store.get_range("a", start, length) == want

    @pytest.mark.parametrize("start", [8, 10, 50])
    def test_range_beyond_the_end(self, store: Store, start: int) -> None:
        """An object that ends before the range is damaged, not short."""
        store.put("a", b"0123456789")
        with pytest.raises(DamagedError):
            store.get_range("a", start, 5)

    def test_missing(self, store: Store) -> None:
        """A key that is not there is told apart from every other trouble."""
        for ask in (store.get, store.stat, lambda key: store.get_range(key, 0, 1)):
            with pytest.raises(MissingError):
                ask("nobody/put/this")

    def test_prefix_is_no_object(self, store: Store) -> None:
        """A prefix of other keys is not an object."""
        store.put("a/b", b"x")
        with pytest.raises(MissingError):
            store.stat("a")

    def test_put_if_absent(self, store: Store) -> None:
        """The first writer wins, and what it wrote stays."""
        assert store.put_if_absent("a", b"first")
        assert not store.put_if_absent("a", b"second")
        assert store.get("a") == b"first"

    def test_put_if_absent_again(self, store: Store) -> None:
        """A repetition after a lost answer counts as the same write."""
        assert store.put_if_absent("a", b"first")
        assert store.put_if_absent("a", b"first")

    def test_race(self, store: Store) -> None:
        """Of eight writers at the same moment exactly one wins."""
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n: store.put_if_absent("a", b"writer %d" % n), range(8)))
        assert sum(won) == 1
        assert store.get("a") == b"writer %d" % won.index(True)

    def test_put_file(self, store: Store, tmp_path: Path) -> None:
        """A file larger than one part arrives whole."""
        path = tmp_path / "large"
        path.write_bytes(bytes(range(256)) * (70 * 4096))
        store.put_file("large", path)
        assert store.stat("large").size == path.stat().st_size
        assert store.get_range("large", 70 * 2**20 - 3, 3) == b"\xfd\xfe\xff"

    @pytest.mark.parametrize("count", [1, 9], ids=["one part", "several parts"])
    def test_put_stream(self, store: Store, count: int) -> None:
        """Bytes that are made on the way arrive whole, and in their order."""
        chunk = bytes(range(251)) * 16_000
        store.put_stream("stream", (chunk[:-number] + b"." * number for number in range(1, count + 1)))
        assert store.get("stream") == b"".join(chunk[:-number] + b"." * number for number in range(1, count + 1))

    def test_put_stream_that_breaks(self, store: Store) -> None:
        """Where the bytes end too early there is no object."""

        def broken() -> Iterator[bytes]:
            yield b"half"
            raise DamagedError("the other half")

        with pytest.raises(DamagedError, match="the other half"):
            store.put_stream("stream", broken())
        assert list(store.list("")) == []

    def test_list(self, store: Store) -> None:
        """A prefix is a string, not a folder; keys come sorted and relative to the store."""
        for key in ("a/2", "a/10/x", "ab", "b"):
            store.put(key, key.encode())
        assert [(e.key, e.size) for e in store.list("a")] == [("a/10/x", 6), ("a/2", 3), ("ab", 2)]
        assert [e.key for e in store.list("a/1")] == ["a/10/x"]
        assert list(store.list("nothing/")) == []

    def test_etag(self, store: Store) -> None:
        """The ETag of a listing is that of the object, and changes with it."""
        store.put("a", b"one")
        before = store.stat("a").etag
        assert [e.etag for e in store.list("a")] == [before]
        store.put("a", b"other")
        assert store.stat("a").etag != before

    def test_delete(self, store: Store) -> None:
        """A deleted object is gone, and may be deleted again."""
        store.put("a", b"")
        store.delete("a")
        store.delete("a")
        assert list(store.list("a")) == []

    def test_conditional_writes(self, store: Store) -> None:
        """Both kinds of store honour conditional writes, and the check leaves nothing behind."""
        require_conditional_writes(store, "check")
        assert list(store.list("")) == []

    def test_sha256(self, store: Store) -> None:
        """The hash is that of the stored bytes."""
        store.put("a", b"abc")
        assert sha256_of(store, "a").startswith("ba7816bf8f01cfea")

    def test_address(self, store: Store) -> None:
        """Another process that opens the same address sees the same objects."""
        store.put("a", b"mine")
        assert open_address(store.address).get("a") == b"mine"


@pytest.mark.processes
class TestS3:
    """What only S3 has."""

    def test_many_pages(self, s3_uri: str) -> None:
        """A listing of more than a thousand objects is complete."""
        store = open_store(s3_uri)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: store.put(f"{n:04}", b""), range(1003)))
        assert [e.key for e in store.list("")] == [f"{n:04}" for n in range(1003)]

    def test_wrong_secret(self, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refused credentials are told at once, with the key."""
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(RefusedError, match=r"GET s3://cpt-test/.*/a: 403"):
            open_store(s3_uri).get("a")

    def test_no_credentials(self, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without credentials the message names the variables."""
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(RefusedError, match="AWS_ACCESS_KEY_ID"):
            open_store(s3_uri).get("a")

    def test_no_bucket(self, s3_endpoint: str) -> None:
        """A bucket that does not exist is missing, not unreachable."""
        with pytest.raises(MissingError, match="no-such-bucket"):
            open_store("s3://no-such-bucket", s3_endpoint).get("a")


def test_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, the call is repeated until its deadline and names the address."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=endpoint):
            S3Store(Address("s3://cpt", endpoint), deadline_seconds=0.01).get("a")


@pytest.mark.parametrize("uri", ["http://cpt", "s3://", "s3:///"])
def test_bad_address(uri: str) -> None:
    """What is neither S3 nor a folder is refused, and the message shows what is expected."""
    with pytest.raises(ConfigError, match="s3://bucket/prefix or a folder"):
        open_store(uri)


class TestFaultyStore:
    """Faults for other tests."""

    def test_fails_at(self, tmp_path: Path) -> None:
        """Exactly the write that was asked for fails, and leaves nothing."""
        store = FaultyStore(FolderStore(tmp_path), fail_at=2)
        store.put("a", b"")
        with pytest.raises(UnreachableError, match="of b, fails as asked"):
            store.put_if_absent("b", b"")
        store.delete("a")
        assert list(store.list("")) == []
