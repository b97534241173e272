"""What is sent, and how: only what is missing, small files together."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millpond.client import uploading
from millpond.client.progress import Progress
from millpond.client.transport import Transport
from millpond.client.walking import find_files, hash_files
from millpond.ground.errors import ConflictError

MISSING = "/api/v1/projects/p/objects/missing"
PACKS = "/api/v1/projects/p/objects"


@pytest.fixture
def transport(script: Any) -> Iterator[Transport]:
    opened = Transport(script.url, pause=lambda _: None)
    yield opened
    opened.close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_only_what_is_missing_is_sent(script: Any, transport: Transport, tmp_path: Path) -> None:
    for name, data in (("a", b"one"), ("b", b"two"), ("same", b"two"), ("c", b"known")):
        (tmp_path / name).write_bytes(data)
    script.say(MISSING, {"missing": [digest(b"one"), digest(b"two")]})
    script.say(PACKS, {"stored": 2})
    told: list[Progress] = []
    hashed = list(hash_files(find_files(tmp_path).files))
    sent = uploading.send_files(transport, "p", hashed, told.append)
    assert (sent.files, sent.size_bytes, sent.known) == (2, 6, 1)
    asked = json.loads(script.asked[0][3])["objects"]
    assert {one["digest"] for one in asked} == {digest(b"one"), digest(b"two"), digest(b"known")}
    with tarfile.open(fileobj=io.BytesIO(script.asked[1][3])) as tar:
        packed = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    assert packed == {digest(b"one"): b"one", digest(b"two"): b"two"}
    assert (told[-1].done, told[-1].total) == (6, 6)


def test_large_files_are_streamed(script: Any, transport: Transport, tmp_path: Path) -> None:
    data = b"x" * (uploading.SMALL_BYTES + 1)
    (tmp_path / "large").write_bytes(data)
    script.say(MISSING, {"missing": [digest(data)]})
    script.say(f"{PACKS}/{digest(data)}", {"detail": "Busy."}, status=503)
    script.say(f"{PACKS}/{digest(data)}", {}, status=201)
    told: list[Progress] = []
    uploading.send_files(transport, "p", list(hash_files(find_files(tmp_path).files)), told.append)
    puts = [body for method, _, _, body in script.asked if method == "PUT"]
    assert puts == [data, data]
    assert told[-1].done == len(data)


def test_packs_are_of_bounded_size(script: Any, transport: Transport, tmp_path: Path) -> None:
    for number in range(uploading.PACK_FILES + 1):
        (tmp_path / str(number)).write_text(str(number))
    hashed = list(hash_files(find_files(tmp_path).files))
    script.say(MISSING, {"missing": [one.digest for one in hashed]})
    script.say(PACKS, {})
    uploading.send_files(transport, "p", hashed)
    assert len([1 for _, path, _, _ in script.asked if path == PACKS]) == 2


@pytest.mark.parametrize("later", [b"longer than before", b""])
@pytest.mark.parametrize("size", [10, uploading.SMALL_BYTES + 10])
def test_a_file_that_changes_is_named(
    script: Any, transport: Transport, tmp_path: Path, size: int, later: bytes
) -> None:
    path = tmp_path / "moving"
    path.write_bytes(b"x" * size)
    hashed = list(hash_files(find_files(tmp_path).files))
    path.write_bytes(later * (size if later else 1))
    script.say(MISSING, {"missing": [hashed[0].digest]})
    script.say(f"{PACKS}/{hashed[0].digest}", {})
    with pytest.raises(ConflictError, match="moving' changed while"):
        uploading.send_files(transport, "p", hashed)
