"""The object store on S3, or on anything that speaks its protocol with conditional writes."""

import io
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from millpond.ground.errors import BusyError, ConflictError
from millpond.storage.claims import Claims
from millpond.storage.port import Method, ObjectInfo, check_key, is_there, not_found
from millpond.storage.refusals import explain, is_silent, lacks_bucket, reason_of

log = logging.getLogger("millpond.storage")

_ONE_PUT_BYTES = 8 << 20
_READ_BYTES = 8 << 20
_UPLOADS = ".uploads/"
_BATCH, _THREADS = 200, 10
_LAST_CHARACTER = "\U0010ffff"


class S3Store:
    """Objects in one bucket, all below one prefix; ``.uploads/`` there holds half-made ones.

    A large object is sent in parts under a temporary key and then copied, on the server, to its
    own key on the condition that this is new: S3 has no conditional upload in parts that streams
    a file of unknown length through one call.
    """

    def __init__(
        self,
        *,
        bucket: str,
        endpoint: str = "",
        region: str = "us-east-1",
        access_key_id: str = "",
        secret_access_key: str = "",
        allow_http: bool = False,
        prefix: str = "",
    ) -> None:
        """Use a bucket; without keys, those of the machine's role are used."""
        import obstore  # Loaded only where S3 is used: it costs 16 MB.
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
        from obstore.store import S3Store as Opened

        options: dict[str, Any] = {
            "region": region,
            "copy_if_not_exists": "multipart",
            "client_options": {"allow_http": allow_http, "timeout": timedelta(seconds=120)},
            "retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=30)},
        }
        if endpoint:
            options["endpoint"] = endpoint
        if access_key_id:
            options |= {"access_key_id": access_key_id, "secret_access_key": secret_access_key}
        self._lib = obstore
        self._taken = (AlreadyExistsError, PreconditionError)
        self._fault = BaseError
        self._store = Opened(bucket, **options)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.claims: Claims | None = None
        """Decides who may create a key, where the service itself cannot."""
        self.race = ""
        """What a race of writers has shown; empty when none was run."""

    def put(self, key: str, data: bytes | BinaryIO, *, overwrite: bool = False) -> int:
        """Send small objects in one conditional request, larger ones in parts."""
        if self.claims is not None and not overwrite:
            return self._put_claimed(self.claims, key, data)
        target = self._name(key)
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        head = _read_fully(file, _ONE_PUT_BYTES + 1)
        with self._told(key):
            if len(head) <= _ONE_PUT_BYTES:
                mode: Any = "overwrite" if overwrite else "create"
                self._lib.put(self._store, target, head, mode=mode, use_multipart=False)
                return len(head)
            counted = _Counted(head, file)
            if overwrite:
                self._lib.put(self._store, target, counted, use_multipart=True)
                return counted.size
            if self.exists(key):
                raise is_there(key)
            temporary = f"{self._prefix}{_UPLOADS}{uuid4().hex}"
            try:
                self._lib.put(self._store, temporary, counted, use_multipart=True)
                self._lib.copy(self._store, temporary, target, overwrite=False)
            finally:
                with suppress(FileNotFoundError, self._fault):
                    self._lib.delete(self._store, temporary)
            return counted.size

    def put_many(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Send several at a time."""

        def send(entry: tuple[str, bytes]) -> None:
            # Whoever writes such a key writes the same bytes: no claim is needed.
            if self.claims is None:
                with suppress(ConflictError):
                    self.put(*entry)
            elif not self.exists(entry[0]):
                self.put(*entry, overwrite=True)

        waiting = iter(objects)
        with ThreadPoolExecutor(_THREADS, "millpond-s3") as pool:
            while batch := list(islice(waiting, _BATCH)):
                list(pool.map(send, batch))

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Ask for a range."""
        return b"".join(self._ranges(key, start, length, 1 << 62))

    def stream(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Ask for range after range of 8 MiB, so that memory stays small."""
        return self._ranges(key, start, length, _READ_BYTES, self.stat(key).size)

    def stat(self, key: str) -> ObjectInfo:
        """Ask for the head."""
        with self._told(key):
            return ObjectInfo(key, int(self._head(self._name(key))["size"]))

    def exists(self, key: str) -> bool:
        """Ask for the head."""
        name = self._name(key)
        try:
            with self._told(key, missing=False):
                self._head(name)
        except FileNotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Delete it; the store does not mind when it is not there."""
        name = self._name(key)
        with suppress(FileNotFoundError), self._told(key, missing=False):
            self._lib.delete(self._store, name)
        if self.claims is not None:
            self.claims.release(key)

    def list(self, prefix: str, after: str = "") -> Iterator[ObjectInfo]:
        """List the folder that holds the prefix, from the prefix on."""
        folder = self._prefix + prefix.rpartition("/")[0]
        whole, since = self._prefix + prefix, self._prefix + after if after else ""
        if prefix:
            # The greatest name before the prefix, so that a key equal to it is listed too.
            since = max(since, whole[:-1] + chr(ord(whole[-1]) - 1) + _LAST_CHARACTER)
        with self._told(prefix):
            pages = self._lib.list(
                self._store, folder.strip("/") or None, offset=since or None, chunk_size=1000
            )
            for page in pages:
                for entry in page:
                    name = entry["path"]
                    if name.startswith(self._prefix + _UPLOADS):
                        continue
                    if name.startswith(whole) and (not after or name > self._prefix + after):
                        key = name.removeprefix(self._prefix)
                        yield ObjectInfo(key, int(entry["size"]), str(entry["e_tag"] or ""))
                    elif name > whole:
                        return

    def sign(self, key: str, *, method: Method = "GET", seconds: int = 3600) -> str:
        """Sign with the store's own keys."""
        return str(self._lib.sign(self._store, method, self._name(key), timedelta(seconds=seconds)))

    def local_path(self, key: str) -> Path | None:
        """Give None: the object lies elsewhere."""
        check_key(key)
        return None

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _head(self, name: str) -> Any:
        try:
            return self._lib.head(self._store, name)
        except FileNotFoundError:
            raise
        except self._fault as fault:
            if is_silent(fault):
                self._lib.get(self._store, name)  # Is refused too, and told why.
            raise

    def _put_claimed(self, claims: Claims, key: str, data: bytes | BinaryIO) -> int:
        check_key(key)
        if self.exists(key) or not claims.take(key, self):
            raise is_there(key)
        try:
            size = self.put(key, data, overwrite=True)
        except BaseException:
            claims.release(key)
            raise
        if not claims.end(key):  # This server stood still for so long that it seemed dead.
            raise is_there(key)
        return size

    def _ranges(
        self, key: str, start: int, length: int | None, step: int, size: int | None = None
    ) -> Iterator[bytes]:
        size = self.stat(key).size if size is None else size
        end = size if length is None else min(size, start + length)
        while start < end:
            stop = min(end, start + step)
            with self._told(key):
                piece = self._lib.get_range(self._store, self._name(key), start=start, end=stop)
            yield bytes(piece)
            start = stop

    @contextmanager
    def _told(self, key: str, *, missing: bool = True) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as fault:
            if lacks_bucket(fault):
                raise self._failed(fault, key) from fault
            if not missing:
                raise
            raise not_found(key) from fault
        except self._taken as fault:
            raise is_there(key) from fault
        except self._fault as fault:
            raise self._failed(fault, key) from fault

    def _failed(self, fault: Exception, key: str) -> BusyError:
        # It names addresses, keys and the bucket, which callers are not told.
        log.warning("The object store failed", extra={"reason": reason_of(fault), "key": key})
        return explain(fault)


class _Counted(io.RawIOBase):
    """What was read already and the rest of the file, as one file that counts."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._head = memoryview(head)
        self._rest = rest
        self.size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._head:
            piece = bytes(self._head[:size] if size >= 0 else self._head)
            self._head = self._head[len(piece) :]
        else:
            piece = self._rest.read(size)
        self.size += len(piece)
        return piece


def _read_fully(file: BinaryIO, size: int) -> bytes:
    pieces: list[bytes] = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
