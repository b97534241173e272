"""Pages of datasets, as a browser gets them."""

import hashlib
import html
import re

import pytest

BIRDS = "/projects/birds/datasets"
API = "/api/v1/projects/birds"


@pytest.fixture
def push(portal_site):
    def send(name, files, **more):
        with portal_site.browser("editor") as http:
            headers = {"Sec-Fetch-Site": "same-origin"}
            listed = []
            for path, data in files.items():
                digest = hashlib.sha256(data).hexdigest()
                sent = http.put(f"{API}/objects/{digest}", content=data, headers=headers)
                assert sent.status_code == 201, sent.text
                listed.append({"path": path, "digest": digest, "size": len(data)})
            made = http.post(
                f"{API}/datasets/{name}/versions", json={"files": listed, **more}, headers=headers
            )
            assert made.status_code == 201, made.text
            return made.json()

    return send


def text_of(answer):
    assert answer.status_code == 200, (answer.status_code, answer.text[:2000])
    assert "style=" not in answer.text
    assert len(re.findall(r"<h1\b", answer.text)) == 1
    return html.unescape(answer.text)


def test_an_empty_list_says_what_to_do_next(portal_site):
    with portal_site.browser("editor") as http:
        shown = text_of(http.get(BIRDS))
        assert "No datasets yet" in shown
        assert "millpond dataset push FOLDER --project birds" in shown
        assert f'href="{BIRDS}/new"' in shown
    with portal_site.browser("viewer") as http:
        shown = text_of(http.get(BIRDS))
        assert "No datasets yet" in shown
        assert f"{BIRDS}/new" not in shown


def test_datasets_are_listed_searched_and_paged(portal_site, push):
    for name in ("reviews", "films", "old-reviews"):
        push(name, {"a.txt": name.encode()})
    with portal_site.browser("viewer") as http:
        shown = text_of(http.get(BIRDS))
        assert all(f'href="{BIRDS}/{name}"' in shown for name in ("reviews", "films"))
        found = text_of(http.get(BIRDS, params={"search": "review"}))
        assert "old-reviews" in found
        assert f"{BIRDS}/films" not in found
        assert "No dataset's name holds" in text_of(http.get(BIRDS, params={"search": "<zzz>"}))
        first = text_of(http.get(BIRDS, params={"limit": 2}))
        rest = re.search(r'href="(/projects/birds/datasets\?[^"]+)">Next page', first)
        assert f'href="{BIRDS}/reviews"' in text_of(http.get(rest[1]))


def test_a_dataset_shows_folders_files_versions_and_commands(portal_site, push):
    push("d", {"top.txt": b"1", "in/deep/a.csv": b"x\n1\n", "in/b.txt": b"22"})
    push("d", {"new.txt": b"2", "in/deep/a.csv": b"x\n1\n"}, add_to=1)
    with portal_site.browser("editor") as http:
        shown = text_of(http.get(f"{BIRDS}/d"))
        assert "Files of d@2" in shown
        assert "new.txt" in shown
        assert "top.txt" in shown  # It was kept.
        assert f'href="{BIRDS}/d?path=in"' in shown
        assert "millpond dataset download d@2 FOLDER --project birds" in shown
        assert f"{API}/datasets/d/versions/2/archive" in shown
        assert f"{BIRDS}/d/upload" in shown
        assert "Hide the dataset" in shown
        below = text_of(http.get(f"{BIRDS}/d", params={"path": "in"}))
        assert "b.txt" in below
        assert "top.txt" not in below
        found = text_of(http.get(f"{BIRDS}/d", params={"search": "a.CSV"}))
        assert "in/deep/a.csv" in found
        assert "new.txt" not in found
        assert "No file below here" in text_of(http.get(f"{BIRDS}/d", params={"search": "zz"}))
        old = text_of(http.get(f"{BIRDS}/d/versions/1"))
        assert "This is version 1." in old
        assert "new.txt" not in old
        first = text_of(http.get(f"{BIRDS}/d", params={"limit": 1}))
        following = re.search(r'href="(/projects/birds/datasets/d\?[^"]+)">Next page', first)
        assert "new.txt" in text_of(http.get(following[1]))
        assert "d@1" in text_of(http.get(f"{BIRDS}/d/versions"))
    with portal_site.browser("viewer") as http:
        shown = text_of(http.get(f"{BIRDS}/d"))
        assert "Upload a new version" not in shown
        assert "Hide the dataset" not in shown


def test_what_is_not_there_helps(portal_site, push):
    push("d", {"a": b"1"})
    with portal_site.browser("viewer") as http:
        for path in ("/no", "/d/versions/7", "/d/versions/1/files?path=zz"):
            assert http.get(BIRDS + path).status_code == 404, path
        assert "no such folder" in text_of(http.get(f"{BIRDS}/d", params={"path": "zz"}))
        for path in ("/new", "/d/upload"):
            assert http.get(BIRDS + path).status_code == 403, path
        assert http.post(f"{BIRDS}/d/hide").status_code == 403
    with portal_site.browser("stranger") as http:
        assert http.get(f"{BIRDS}/d").status_code == 404
    with portal_site.browser() as http:
        assert http.get(f"{BIRDS}/d").headers["location"].startswith("/sign-in")


def test_files_are_shown_by_their_kind_and_never_run(portal_site, push):
    odd = "caf<b>é\n'1'.txt"
    push(
        "d",
        {
            odd: b"<script>alert(1)</script>",
            "t.csv": b"name,n\n<i>x</i>,1\n",
            "p.png": b"\x89PNG\r\n\x1a\n....",
            "raw.bin": b"\0\1\2",
        },
    )
    place = f"{BIRDS}/d/versions/1/files"
    with portal_site.browser("viewer") as http:
        answer = http.get(place, params={"path": odd})
        assert "<script>alert" not in answer.text
        shown = text_of(answer)
        assert "<script>alert(1)</script>" in shown
        assert "caf<b>é\\n'1'.txt" in shown
        table = http.get(place, params={"path": "t.csv"})
        assert "<i>x" not in table.text
        assert "whole number" in text_of(table)
        image = text_of(http.get(place, params={"path": "p.png"}))
        source = re.search(r'<img class="mw-100" src="([^"]+)"', image)[1]
        sent = http.get(source)
        assert (sent.status_code, sent.headers["content-type"]) == (200, "image/png")
        assert "can't be shown here" in text_of(http.get(place, params={"path": "raw.bin"}))
        listed = text_of(http.get(f"{BIRDS}/d"))
        link = re.search(r'href="([^"]+/files\?path=caf[^"]+)"', listed)[1]
        assert http.get(link).status_code == 200


def test_a_path_that_is_not_utf8_leads_to_its_file(portal_site, push):
    push("d", {"other": b"x"})
    digest = hashlib.sha256(b"x").hexdigest()
    entry = {"path": "d\\xe9r/f", "path_bytes": "ZOlyL2Y=", "digest": digest, "size": 1}
    with portal_site.browser("editor") as http:
        headers = {"Sec-Fetch-Site": "same-origin"}
        made = http.post(f"{API}/datasets/d/versions", json={"files": [entry]}, headers=headers)
        assert made.status_code == 201, made.text
        top = text_of(http.get(f"{BIRDS}/d"))
        folder = re.search(r'href="(/projects/birds/datasets/d\?path=[^"]+)"', top)[1]
        inside = text_of(http.get(folder))
        file = re.search(r'href="([^"]+/files\?path=[^"]+)"', inside)[1]
        assert digest in text_of(http.get(file))


def test_hiding_asks_first_and_takes_it_off_the_list(portal_site, push):
    push("d", {"a": b"1"})
    with portal_site.browser("editor") as http:
        assert 'data-confirm="Hide d with all its versions?"' in http.get(f"{BIRDS}/d").text
        gone = http.post(f"{BIRDS}/d/hide")
        assert (gone.status_code, gone.headers["location"]) == (303, BIRDS)
        assert "d is hidden." in text_of(http.get(BIRDS))
        assert http.get(f"{BIRDS}/d").status_code == 404


def test_the_upload_page_tells_of_unfinished_uploads_and_gives_them_up(portal_site, push):
    push("d", {"a": b"1"})
    with portal_site.browser("editor") as http:
        page = text_of(http.get(f"{BIRDS}/new"))
        assert 'data-api="/api/v1/projects/birds"' in page
        assert "did not arrive whole" not in page
        headers = {"Sec-Fetch-Site": "same-origin", "Tus-Resumable": "1.0.0"}
        begun = http.post(
            f"{API}/uploads",
            headers={**headers, "Upload-Length": "9", "Upload-Metadata": "filename aGFsZi50eHQ="},
        )
        assert begun.status_code == 201, begun.text
        page = text_of(http.get(f"{BIRDS}/d/upload"))
        assert "half.txt" in page
        assert "the 1 file of d@1 and these" in page
        assert http.post(f"{BIRDS}/new/forget").status_code == 303
        assert "did not arrive whole" not in text_of(http.get(f"{BIRDS}/new"))
