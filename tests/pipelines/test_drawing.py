"""The drawing of steps: nothing overlaps, lines go forward, nothing in a name gets out."""

import re
import time
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.pipelines.drawing import HEIGHT, WIDTH, draw_dag, lay_out

SVG = "{http://www.w3.org/2000/svg}"


@st.composite
def graphs(draw):
    names = [f"step_{number}" for number in range(draw(st.integers(0, 14)))]
    pairs = list(combinations(names, 2))
    return names, draw(st.lists(st.sampled_from(pairs), max_size=40)) if pairs else []


def parse(svg):
    return ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@settings(deadline=None)
@given(graphs())
def test_boxes_never_overlap_and_lines_go_forward_beside_them(graph):
    names, edges = graph
    layout = lay_out(names, edges)
    assert set(layout.boxes) == set(names)
    assert set(layout.lines) == set(edges)
    for one, other in combinations(layout.boxes.values(), 2):
        apart = abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT
        assert apart, (one, other)
    for box in layout.boxes.values():
        assert 0 <= box.x <= layout.width - WIDTH
        assert 0 <= box.y <= layout.height - HEIGHT
    for (before, after), points in layout.lines.items():
        assert points[0][0] == layout.boxes[before].x + WIDTH
        assert points[-1][0] == layout.boxes[after].x
        assert all(a[0] < b[0] for a, b in pairwise(points))
        for a, b in pairwise(points):
            if b[0] - a[0] == WIDTH:  # It passes a layer: no box stands in its way.
                assert a[1] == b[1]
                for box in layout.boxes.values():
                    assert box.x != a[0] or not box.y < a[1] < box.y + HEIGHT


@settings(deadline=None, max_examples=50)
@given(graphs(), st.data())
def test_any_name_state_and_link_gives_sound_xml(graph, data):
    names, edges = graph
    odd = st.text(max_size=20)
    texts = {name: data.draw(odd) for name in names}
    svg = draw_dag(
        names,
        edges,
        states=texts,
        notes=texts,
        links={name: f"/x?y={text}" for name, text in texts.items() if "\x00" not in text},
        title="<script>alert(1)</script>",
    )
    assert "<script" not in svg
    assert "style=" not in svg
    for bad in re.findall(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", svg):
        svg = svg.replace(bad, "")
    root = parse(svg)
    assert len(root.findall(f".//{SVG}rect[@class='dag-box']")) == len(names)


def test_names_are_told_as_text_and_states_by_word_sign_and_class():
    svg = draw_dag(
        ["load", 'a<b>&"c"'],
        [("load", 'a<b>&"c"')],
        states={"load": "failed", 'a<b>&"c"': "running"},
        links={"load": "/projects/p/runs/r?step=load"},
        counts={'a<b>&"c"': (3, 4)},
    )
    root = parse(svg)
    link = root.find(f"{SVG}a")
    assert link.get("href") == "/projects/p/runs/r?step=load"
    assert link.get("aria-label") == "load: failed"
    assert "dag-failed" in link.get("class")
    words = [each.text for each in root.iter(f"{SVG}text")]
    assert words == ["✗", "load", "failed", "▶", 'a<b>&"c"', "running"]
    assert root.find(f"{SVG}desc").text == 'load (failed); a<b>&"c" (running) after load.'
    assert root.find(f".//{SVG}rect[@class='dag-fill']").get("width") == "129.0"


def test_what_leads_back_or_nowhere_is_left_out():
    layout = lay_out(["a", "b"], [("a", "b"), ("b", "a"), ("a", "a"), ("x", "b"), ("a", "b")])
    assert list(layout.lines) == [("a", "b")]
    assert draw_dag([], []).startswith("<svg")


def test_two_hundred_steps_are_drawn_at_once_and_in_their_columns():
    names = [f"s{depth}_{place}" for depth in range(20) for place in range(10)]
    edges = [
        (f"s{depth}_{place}", f"s{depth + 1}_{(place * 3 + more) % 10}")
        for depth in range(19)
        for place in range(10)
        for more in range(2)
    ]
    began = time.perf_counter()
    layout = lay_out(names, edges)
    assert time.perf_counter() - began < 2
    assert len({box.x for box in layout.boxes.values()}) == 20
    svg = draw_dag(names, edges, states=dict.fromkeys(names, "waiting"))
    assert svg.count('class="dag-box"') == 200


def test_steps_side_by_side_do_not_cross():
    names = ["a1", "a2", "a3", "b1", "b2", "b3"]
    layout = lay_out(names, [("a1", "b3"), ("a2", "b2"), ("a3", "b1")])
    order = sorted(["a1", "a2", "a3"], key=lambda name: layout.boxes[name].y)
    ends = sorted(["b1", "b2", "b3"], key=lambda name: layout.boxes[name].y)
    partner = {"a1": "b3", "a2": "b2", "a3": "b1"}
    assert [partner[name] for name in order] == ends
