"""What the client keeps on this machine, and which server it speaks to."""

import json
import os
import stat
from pathlib import Path

import pytest

from millpond.client.client import Chosen, choose_server
from millpond.client.config import Config, config_path, read_config, write_config
from millpond.client.local import LocalSignIn, find_servers, user_name
from millpond.ground.errors import InvalidError, NotSignedInError

KEPT = Config("http://far:8787", "kept-token", "p", ("/a", "/b"))


def test_what_is_kept_comes_back_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.toml"
    strange = Config('http://x/"\\', "tab\there\n", "p", ("/with space/ü",))
    write_config(path, strange)
    assert read_config(path) == strange
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["config.toml"]


def test_the_token_is_never_shown() -> None:
    assert "kept-token" not in repr(KEPT)


def test_a_missing_file_is_an_empty_one(tmp_path: Path) -> None:
    assert read_config(tmp_path / "none") == Config()


def test_every_fault_of_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('url = 3\nunknown = "x"\ndata_folders = "x"\n')
    with pytest.raises(InvalidError) as caught:
        read_config(path)
    assert [one.field for one in caught.value.faults] == ["unknown", "url", "data_folders"]
    path.write_text("url = ")
    with pytest.raises(InvalidError, match="no TOML"):
        read_config(path)


def test_the_place_of_the_file() -> None:
    assert config_path({"MILLPOND_CONFIG": "/c.toml"}) == Path("/c.toml")
    assert config_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/millpond/config.toml")
    assert config_path({"HOME": "/home/a"}) == Path("/home/a/.config/millpond/config.toml")


def test_arguments_then_variables_then_the_sign_in() -> None:
    assert choose_server(KEPT, {}) == Chosen("http://far:8787", "kept-token")
    assert choose_server(KEPT, {}, "http://far:8787/", "mine") == Chosen("http://far:8787/", "mine")
    environ = {"MILLPOND_URL": "http://near", "MILLPOND_TOKEN": "env"}
    assert choose_server(KEPT, environ) == Chosen("http://near", "env")


def test_a_kept_token_goes_to_no_other_server() -> None:
    assert choose_server(KEPT, {}, "http://evil:8787") == Chosen("http://evil:8787", None)
    assert choose_server(KEPT, {"MILLPOND_URL": "http://evil"}) == Chosen("http://evil", None)


def a_server(data: Path, url: str, process: int) -> Path:
    data.mkdir(parents=True)
    (data / "server.json").write_text(json.dumps({"url": url, "pid": process}))
    return data


def test_a_server_on_this_machine_is_found_when_it_runs(tmp_path: Path) -> None:
    dead = a_server(tmp_path / "dead", "http://127.0.0.1:1", 2**22 + 1)
    alive = a_server(tmp_path / "alive", "http://127.0.0.1:2", os.getpid())
    config = Config(data_folders=(str(dead), str(alive)))
    environ = {"MILLPOND_DATA": str(tmp_path / "none"), "HOME": str(tmp_path)}
    found = choose_server(config, environ)
    assert found.url == "http://127.0.0.1:2"
    assert isinstance(found.token, LocalSignIn)
    assert [one.data for one in find_servers([dead, alive])] == [alive]
    with pytest.raises(NotSignedInError, match="none runs on this machine"):
        choose_server(Config(data_folders=(str(dead),)), environ)


def test_a_data_folder_that_is_named_counts_more_than_a_sign_in(tmp_path: Path) -> None:
    alive = a_server(tmp_path / "alive", "http://127.0.0.1:2", os.getpid())
    found = choose_server(KEPT, {"MILLPOND_URL": "http://x"}, data_folder=alive)
    assert found.url.endswith(":2")


def test_a_key_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    alive = a_server(tmp_path / "alive", "http://127.0.0.1:2", os.getpid())
    sign = LocalSignIn(find_servers([alive])[0], tmp_path / "tokens.json")
    with pytest.raises(NotSignedInError, match="runs as somebody else"):
        sign("")


def test_a_user_has_a_name_that_may_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, name in (("Ann B.", "ann-b"), ("__", "admin"), ("x" * 90, "x" * 40)):
        monkeypatch.setenv("LOGNAME", variable)
        assert user_name() == name
