import pytest

from millpond.ground.errors import NotAllowedError
from millpond.web.hosts import Hosts, is_numeric_or_local

OURS = Hosts(["http://127.0.0.1:8787", "https://pond.example"], is_any=False)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "127.0.0.1:8787",
        "[::1]:8787",
        "192.0.2.7",
        "localhost:8787",
        "LOCALHOST",
        "a.localhost",
        "pond.example",
        "Pond.Example.:443",
    ],
)
def test_a_server_answers_to_numbers_itself_and_its_own_names(host):
    OURS.check("POST", host, "")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8787", "127.0.0.1.evil.example", "localhost.evil.example"],
)
def test_a_name_that_a_page_has_pointed_here_is_refused(host):
    for method in ("GET", "POST"):
        with pytest.raises(NotAllowedError, match="does not answer to the name"):
            OURS.check(method, host, "")
    Hosts().check("GET", host, "")
    assert not is_numeric_or_local(host)


@pytest.mark.parametrize(
    ("host", "origin", "is_fine"),
    [
        ("127.0.0.1:8787", "http://127.0.0.1:8787", True),
        ("127.0.0.1:8787", "https://pond.example", True),  # A proxy gave the Host another name.
        ("pond.example", "https://pond.example", True),
        ("127.0.0.1:8787", "http://127.0.0.1:8888", False),
        ("127.0.0.1:8787", "https://evil.example", False),
        ("127.0.0.1:8787", "null", False),
    ],
)
def test_a_page_of_another_origin_may_change_nothing(host, origin, is_fine):
    OURS.check("GET", host, origin)
    if is_fine:
        OURS.check("POST", host, origin)
        return
    with pytest.raises(NotAllowedError, match="may not change anything"):
        OURS.check("POST", host, origin)
