import json
import re
from html.parser import HTMLParser

import pytest

from millpond.pipelines.outputs.collect import collect
from millpond.pipelines.outputs.report import STYLE_HASH
from millpond.pipelines.outputs.values import OutputFile

EVIL = '"><script src=http://evil.example/x.js></script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in ("meta", "rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag):
        if tag == "rect":
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture
def page_of(objects, make_collection):
    def make(*outputs, **changes):
        files = {
            each.path: each.key
            for each in collect(objects, make_collection(*outputs, **changes)).manifest.files
        }
        text = objects.get(files["report.html"]).decode()
        return text, Page(text)

    return make


def test_is_one_page_that_loads_nothing(page_of, table, keep_rows):
    text, page = page_of(table(keep_rows(*({"n": n / 3, "t": "ab"[n % 2]} for n in range(50)))))
    assert not {"script", "link", "iframe", "object", "embed", "img", "form"} & set(page.tags)
    named = [each for each in page.attributes if each[1] in ("src", "href", "style", "srcset")]
    assert named == []
    assert not [each for each in page.attributes if each[1].startswith("on")]
    assert not re.search(r"https?:|//|@import|url\(", text.replace("//www.w3.org", ""))
    assert page.tags.count("svg") == 2
    policy = next(value for _, name, value in page.attributes if value.startswith("default-src"))
    assert STYLE_HASH in policy


def test_escapes_whatever_it_shows(page_of, table, keep, keep_rows, make_collection):
    rows = keep_rows({EVIL: EVIL}, {EVIL: EVIL}, {EVIL: "\x1b[2J\u202e"})
    text, page = page_of(
        table(rows), table(keep_rows({"a": EVIL})), pipeline={"address": EVIL}, environment={"python": EVIL},
        machine={EVIL: EVIL},
    )  # fmt: skip
    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert any("evil.example" in word for word in page.words)


def test_says_what_ran_and_on_what(page_of, table, keep_rows):
    _, page = page_of(table(keep_rows({"a": 1})))
    words = " ".join(page.words)
    told = (
        "Types of files",
        "identify",
        "letters@3",
        "min_score".replace("_", " "),
        "magika==1.0.3",
    )
    for each in (*told, "3.11.7", "run_1", "succeeded", "94.4 MB", "predictions.csv"):
        assert each in words, each


def test_shows_a_number_per_bin_and_a_bar_per_value(page_of, table, keep_rows):
    text, page = page_of(table(keep_rows(*({"n": n, "t": "abc"[n % 3]} for n in range(90)))))
    assert "0 to 2.967: 3" in text
    assert page.tags.count("rect") == 30 + 3


def test_a_page_of_nothing_is_a_page(page_of):
    _, page = page_of()
    assert "The run had no parameters." not in " ".join(page.words)
    assert page.tags[0] == "html"


def test_the_record_is_json_and_lists_raw_names(objects, make_collection, keep):
    from millpond.pipelines.values import GatheredOutput

    out = GatheredOutput("out", "files", "", "s", (keep("\udcff", b"1"),))
    files = {each.path: each for each in collect(objects, make_collection(out)).manifest.files}
    record = json.loads(objects.get(files["provenance.json"].key))
    odd = next(each for each in record["outputs"] if "path_bytes" in each)
    assert OutputFile(key="", **odd).raw_path == b"files/out/\xff"
