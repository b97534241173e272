"""The portal's frame: who comes in, where forms may come from, faults as pages, assets."""

import json

import httpx
import pytest
from fastapi import APIRouter

from millpond.ground.errors import Fault, InvalidError, NotFoundError
from millpond.people.requests import ProjectRequest
from millpond.web import words
from millpond.web.portal import FormIn, VisitIn, page
from millpond.web.site import own_path


@pytest.fixture
def site(portal_site):
    """Give the house with a few pages more, made before the first visit."""
    router, later = APIRouter(), portal_site.app.state.site

    @router.get("/try/projects/{project}", **page("project.read"))
    def show(visit: VisitIn, project: str):
        return later.app.state.portal.render(
            visit, "web/fault.html", heading="<b>", message="m", next_step="n",
            fault_list=[], request_id="r",
        )  # fmt: skip

    @router.get("/try/missing", **page("profile.read"))
    def miss(visit: VisitIn):
        raise NotFoundError("There is no such <bird>.", next_step="Look <elsewhere>.")

    @router.post("/try/form", **page("project.create"))
    def send(visit: VisitIn, form: FormIn):
        body = form.to(ProjectRequest)
        return later.app.state.portal.go(visit, "/try/done", said=f"Made {body.name}.")

    @router.post("/try/faults", **page("project.create"))
    def fail(visit: VisitIn):
        raise InvalidError("Wrong.", next_step="Mend it.", faults=[Fault("name", "is taken")])

    later.app.include_router(router)
    return portal_site


def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(site):
    with site.browser() as http:
        answer = http.get("/try/projects/birds?x=1")
        assert answer.status_code == 303
        assert answer.headers["location"] == "/sign-in?next=%2Ftry%2Fprojects%2Fbirds%3Fx%3D1"
        part = http.get(
            "/try/missing", headers={"HX-Request": "true", "HX-Current-URL": f"{site.url}/a?b=c"}
        )
        assert (part.status_code, part.headers["hx-redirect"]) == (
            401,
            "/sign-in?next=%2Fa%3Fb%3Dc",
        )


def test_a_page_is_strict_about_what_it_runs_and_escapes_what_it_shows(site):
    with site.browser("viewer") as http:
        answer = http.get("/try/projects/birds")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "&lt;b&gt;" in answer.text
    assert "style=" not in answer.text
    assert "onclick" not in answer.text
    assert 'aria-label="Project birds"' in answer.text


@pytest.mark.parametrize(
    ("who", "path", "status", "leads"),
    [
        ("viewer", "/projects/birds/datasets/nope", 404, "/projects/birds/datasets"),
        ("viewer", "/projects/birds/runs/nope/now", 404, "/projects/birds/runs"),
        ("viewer", "/projects/birds/pipelines/new", 403, "/projects/birds/pipelines"),
        ("viewer", "/projects/birds/nope", 404, ""),
        ("stranger", "/projects/birds/datasets/nope", 404, None),
        ("stranger", "/projects/birds/nope", 404, None),
        ("root", "/admin/nodes/nope", 404, "/admin/nodes"),
        ("viewer", "/admin/nodes/nope", 403, None),
    ],
)
def test_what_is_not_there_leads_to_the_list_and_keeps_the_menu(site, who, path, status, leads):
    with site.browser(who) as http:
        answer = http.get(path)
    assert answer.status_code == status
    in_birds = path.startswith("/projects/birds/") and leads is not None
    assert ('aria-label="Project birds"' in answer.text) == in_birds
    assert (f'btn-primary" href="{leads or "/"}"') in answer.text


def test_faults_are_pages_for_people_and_problems_for_programs(site):
    with site.browser("viewer") as http:
        shown = http.get("/try/missing")
        assert shown.status_code == 404
        assert "Look &lt;elsewhere&gt;." in shown.text
        told = http.get("/try/missing", headers={"Accept": "application/json"})
        assert told.json()["code"] == "not_found"
        nowhere = http.get("/no/such/page")
        assert nowhere.status_code == 404
        assert "To the home page" in nowhere.text
        assert http.get("/api/v1/nothing").json()["code"] == "not_found"
        assert http.delete("/healthz").status_code == 405


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_a_form_counts_only_from_our_own_pages(site, headers, status):
    name, token = site.cookie("owner")
    with httpx.Client(base_url=site.url, cookies={name: token}) as http:
        given = {"name": "lakes"}
        assert http.post("/try/form", data=given, headers=headers).status_code == status
        old = {"Origin": site.url}
        assert http.post("/try/form", data=given, headers=old).status_code == 303


def test_the_cookie_is_good_for_rest_and_guarded_there_too(site):
    name, token = site.cookie("owner")
    with httpx.Client(base_url=site.url, cookies={name: token}) as http:
        assert http.get("/api/v1/me").json()["user"]["name"] == "owner"
        given = {"json": {"name": "ponds"}}
        assert http.post("/api/v1/projects", **given).status_code == 403
        own = {"Sec-Fetch-Site": "same-origin"}
        assert http.post("/api/v1/projects", headers=own, **given).status_code == 201
        both = {"Authorization": "Bearer wrong", **own}
        assert http.get("/api/v1/me", headers=both).status_code == 401


def test_a_form_is_read_as_rest_reads_it_and_what_is_said_shows_once(site):
    with site.browser("owner") as http:
        wrong = http.post("/try/form", data={"name": ""}, headers={"Accept": "application/json"})
        rest = http.post(
            "/api/v1/projects", json={"name": ""}, headers={"Accept": "application/json"}
        )
        assert wrong.status_code == rest.status_code == 422
        assert wrong.json()["faults"] == rest.json()["faults"]
        http.post("/try/form", data={"name": "lakes"})
        assert "Made lakes." in http.get("/try/projects/birds").text
        assert "Made lakes." not in http.get("/try/projects/birds").text


def test_the_theme_is_remembered_and_nobody_is_led_elsewhere(site):
    with site.browser() as http:
        answer = http.post("/theme", data={"theme": "dark", "next": "//evil.example/"})
        assert answer.headers["location"] == "/"
        assert 'data-bs-theme="dark"' in http.get("/no/such/page").text
    assert own_path("/projects/a?b=c") == "/projects/a?b=c"
    assert {own_path(p) for p in ("https://e.example", "//e", "/\\e", "", "/a\nb")} == {"/"}


def test_assets_never_change_under_their_name_and_come_packed(site):
    with site.browser() as http:
        text = http.get("/no/such/page").text
        path = text.partition('src="/static/portal-')[2].partition('"')[0]
        answer = http.get(f"/static/portal-{path}")
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        assert http.get("/static/manifest.json.gz").status_code == 404
        assert http.get("/static/..%2fportal.py").status_code == 404


def test_live_events_of_many_places_come_in_one_stream(site):
    def make(name):
        with site.browser("owner") as other:
            return other.post(
                f"/api/v1/projects/{name}/environments", json={"name": "e", "requirements": ""}
            )

    query = [("place", "birds environment/e"), ("place", "birds run/x"), ("place", "none x")]
    with site.browser("owner") as http, http.stream("GET", "/live", params=query) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        next(lines)
        assert make("birds").status_code in (201, 202)
        told = next(line for line in lines if line.startswith("data: "))
        assert json.loads(told[6:])["topic"] == "environment/e"
    with site.browser("owner") as http:
        assert http.get("/live?place=x", headers={"Accept": ""}).status_code == 422


def test_small_amounts_and_times_are_never_naught_nor_powers_of_ten():
    assert [words.write_duration(s) for s in (0, 0.0004, 0.04, 0.1)] == [
        "0.0 s",
        "1 ms",
        "40 ms",
        "0.1 s",
    ]
    assert [words.write_amount(x) for x in (None, 0, 2.1e-5, 0.25, 1234.5)] == [
        "\N{EN DASH}",
        "0.000",
        "< 0.001",
        "0.250",
        "1\u202f234.500",
    ]
    assert words.write_amount(0.0003, 2) == "< 0.01"


def test_commands_in_words_are_shown_as_code():
    assert words.write_coded("See `ls <x>`, then `b`.") == (
        "See <code>ls &lt;x&gt;</code>, then <code>b</code>."
    )
    assert words.write_coded("An odd ` is <none>.") == "An odd ` is &lt;none&gt;."


def test_words_for_numbers():
    assert [words.write_size(n) for n in (0, 999, 1500, 2_000_000, None)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.0 MB",
        words.NOTHING,
    ]
    assert words.write_size(999_600) == "1.0 MB"
    assert [words.write_duration(s) for s in (0.44, 12.2, 185, 7800, 90000)] == [
        "0.4 s",
        "12 s",
        "3 min 5 s",
        "2 h 10 min",
        "1 d 1 h",
    ]
    assert words.write_number(1234567) == "1\u202f234\u202f567"
