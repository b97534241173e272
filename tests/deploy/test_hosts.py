"""The list of machines, the host's settings, and what stands against a host; without machines."""

import tomllib
from importlib.metadata import version as version_of
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.deploy import bring_up
from millpond.deploy.host import Host, Plan, find_address, settings_text
from millpond.deploy.hostfile import HostLine, parse_hosts, read_hosts
from millpond.deploy.wheelhouse import Wheelhouse
from millpond.ground import versions
from millpond.ground.errors import ConflictError, InvalidError
from millpond.ground.settings import load_settings

GOOD = """
# Ours, in the cellar.
root@10.0.0.11 name=w1 data=/mnt/data slots=4 key=keys/one label.room=cellar label.gpu=no
10.0.0.12          # Root, and all else by itself.
ada@worker-3.example:2222 key=/k
root@[fd00::5]:2200
fd00::6
"""


def test_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "one").touch()
    lines, faults = parse_hosts(GOOD.replace("key=/k", ""), tmp_path)
    assert faults == []
    assert lines[0] == HostLine(
        3, "10.0.0.11", name="w1", data="/mnt/data", slots=4, key=tmp_path / "keys" / "one",
        labels={"room": "cellar", "gpu": "no"},
    )  # fmt: skip
    assert lines[1] == HostLine(4, "10.0.0.12")
    assert (lines[2].user, lines[2].address, lines[2].port) == ("ada", "worker-3.example", 2222)
    assert (lines[3].address, lines[3].port) == ("fd00::5", 2200)
    assert (lines[4].address, lines[4].port) == ("fd00::6", 22)


def test_everything_that_is_wrong_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    text = """root@10.0.0.11 name=w1
root@10.0.0.11
root@10.0.0.12 name=w1 dat=/mnt slots=none data=
Root@10.0.0.13 key=missing
ada@10.0.0.14:99999
name=w5
root@10.0.0.15 name=W_5 data=mnt key=missing
root@10.0.0.16 slots=1 slots=2
root@10 0.0.17
root@10.0.0.18 name=local
root@owl.example
root@Owl.example
"""
    path = tmp_path / "machines"
    path.write_text(text)
    with pytest.raises(InvalidError) as raised:
        read_hosts(path)
    found: dict[str, list[str]] = {}
    for fault in raised.value.faults:
        found.setdefault(fault.field, []).append(fault.message)
    assert found["line 2"] == ["10.0.0.11 stands in line 1 already"]
    assert found["line 3"] == [
        "'dat=/mnt' says nothing that is known; did you mean data=?",
        "slots=none is no number from 1 to 4096",
        "'data=' has no value",
    ]
    assert found["line 4"] == [
        "'Root' is no name of a user",
        f"key={tmp_path / 'missing'} is no file on this host",
    ]
    assert found["line 5"] == ["'99999' is no port: 1 to 65535"]
    assert found["line 6"] == ["'name=w5' is no machine: USER@ADDRESS"]
    assert len(found["line 7"]) == 3
    assert found["line 8"] == ["slots= stands there 2 times"]
    assert found["line 9"] == ["'0.0.17' says nothing that is known"]
    assert found["line 10"] == ["name=local is kept for Millpond itself"]
    assert found["line 12"] == ["Owl.example stands in line 11 already"]
    assert "line 3: 'data=' has no value" in raised.value.message

    path.write_text("# nothing\n")
    with pytest.raises(InvalidError, match="names no machine"):
        read_hosts(path)
    with pytest.raises(InvalidError, match=f"{tmp_path}/none cannot be read: No such file"):
        read_hosts(tmp_path / "none")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidError, match="cannot be read: it is no text"):
        read_hosts(path)


@given(st.text(max_size=200))
def test_any_text_is_lines_or_faults(text: str) -> None:
    lines, faults = parse_hosts(text, Path("/nowhere"))
    said = [raw for raw in text.splitlines() if raw.partition("#")[0].split()]
    assert len(lines) <= len(said) <= len(lines) + len(faults)


def test_the_settings_are_good_settings(tmp_path: Path) -> None:
    for address, host in (("10.0.0.1", "0.0.0.0"), ("fd00::1", "::")):
        path = tmp_path / "settings.toml"
        path.write_text(settings_text(Plan(tmp_path, address, port=9000)))
        settings = load_settings(path, {})
        assert (settings.server.host, settings.server.port) == (host, 9000)
        assert settings.cluster.address == address
        assert (settings.engine.kind, settings.objects.kind) == ("dask", "nodes")
    assert tomllib.loads(settings_text(Plan(tmp_path, "a", keeps_on_nodes=False)))["objects"] == {
        "kind": "folder"
    }


def test_settings_of_somebody_else_are_never_overwritten(tmp_path: Path) -> None:
    said: list[str] = []
    host = Host(
        Plan(tmp_path, "10.0.0.1"), Wheelhouse(tmp_path / "w"), lambda *words: said.append(words[0])
    )
    path = tmp_path / "settings.toml"
    path.write_text("[server]\nport = 1\n")
    with pytest.raises(ConflictError) as raised:
        host._check_settings()
    for words in ('engine.kind = "dask"', 'server.host = "0.0.0.0"', "cluster.address"):
        assert words in raised.value.message
    path.write_text("[server\n")
    with pytest.raises(ConflictError, match="cannot be read"):
        host._check_settings()
    path.write_text(settings_text(Plan(tmp_path, "10.9.9.9")))
    host._check_settings()
    assert "10.9.9.9" in path.read_text()


def test_the_way_to_a_machine_tells_our_address() -> None:
    assert find_address("127.0.0.1") == "127.0.0.1"
    with pytest.raises(InvalidError, match="knows no way to"):
        find_address("no-such-host.invalid")


def test_what_is_wrong_is_said_in_words_and_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bring_up.main([str(tmp_path / "none")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    path = tmp_path / "machines"
    path.write_text("root@127.0.0.1\n")
    assert bring_up.main([str(path), "--data", "/srv/a b"]) == 2
    assert "no plain path" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        bring_up.main([str(path), "--port", "99999"])
    assert "'99999' is no port: 1 to 65535" in capsys.readouterr().err


def test_a_carried_wheelhouse_with_other_code_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = bring_up.Board()
    code = versions.digest_of(versions.code_below(versions.PACKAGE))
    own = versions.in_words(version_of("millpond"), code)
    bring_up.warn_of_other_code(versions.CHECKOUT, own, board)
    bring_up.warn_of_other_code(tmp_path, "0.1.0+00000000", board)  # No folder of ours.
    assert capsys.readouterr().err == ""
    bring_up.warn_of_other_code(versions.CHECKOUT, "0.1.0+00000000", board)
    told = capsys.readouterr().err
    assert "! " in told
    assert "holds Millpond 0.1.0+00000000" in told
    assert own in told
