"""Odd things in the addresses and forms of pages: refused or found to be nothing, never a defect."""

from itertools import product
from typing import Any

ODD = (
    "%00",
    "%ff%fe",
    "%ED%A0%80",
    "%",
    "_",
    "%F0%9F%90%A6",
    "a" * 190,
    "'\";--",
    "../..",
    "{{7*7}}",
)
ADDRESSES = (
    "/projects?text={}",
    "/projects?which={}",
    "/projects?cursor={}",
    "/projects/birds/members?cursor={}",
    "/projects/birds/secrets?cursor={}",
    "/projects/birds/activity?text={}",
    "/projects/birds/activity?who={}",
    "/projects/birds/activity?verb={}*",
    "/projects/birds/activity?target={}*",
    "/projects/birds/activity?since={}",
    "/projects/birds/activity?zone={}",
    "/projects/birds/activity?cursor={}",
    "/projects/birds/activity/{}",
    "/projects/{}",
    "/admin/users?text={}",
    "/admin/users/{}",
    "/admin/queue?state={}",
    "/admin/queue?kind={}",
    "/admin/queue/{}",
    "/admin/schedules?cursor={}",
    "/panels/{}",
)
FORMS = (
    ("/projects/new", ("name", "description")),
    ("/projects/birds/settings", ("description",)),
    ("/projects/birds/members", ("user", "role")),
    ("/projects/birds/secrets", ("name", "value")),
    ("/admin/users/new", ("name", "email", "password")),
    ("/admin/users/viewer", ("email",)),
    ("/admin/users/viewer/password", ("new",)),
    ("/admin/schedules", ("name", "kind", "cron", "time_zone")),
)


def test_an_odd_address_is_no_defect(portal_site: Any) -> None:
    with portal_site.browser("root") as http:
        for address, odd in product(ADDRESSES, ODD):
            answer = http.get(address.format(odd))
            assert answer.status_code < 500, (address, odd, answer.text)
            assert ">49<" not in answer.text, address


def test_an_odd_form_is_no_defect(portal_site: Any) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    with portal_site.browser("root") as http:
        for (path, fields), odd in product(FORMS, ODD):
            sent = "&".join(f"{field}={odd}" for field in fields)
            assert http.post(path, content=sent, headers=kind).status_code < 500, (path, odd)
