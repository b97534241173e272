"""Draw the steps of a pipeline as SVG: pure, nothing but text in and text out.

Layers from left to right by the longest path, ordered in each layer so that few lines cross
(barycentres, after Sugiyama, Tagawa, Toda: "Methods for visual understanding of hierarchical system
structures", 1981). A line that passes layers gets a place of its own in each, so that it runs
beside boxes and not through them. All colours come from classes.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape

WIDTH, HEIGHT = 196, 58
_ACROSS, _DOWN, _LINE_DOWN = 64, 18, 10
_MARGIN = 12
_SWEEPS = 6
_LETTERS = 21
_SIGNS = {
    "succeeded": "✓",
    "failed": "✗",
    "running": "▶",
    "cancelled": "■",
    "skipped": "–",  # noqa: RUF001 - a dash for people.
    "waiting": "○",
}


@dataclass(frozen=True)
class Box:
    """Where a step stands; ``x`` and ``y`` are its upper left corner."""

    x: float
    y: float
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True)
class Layout:
    """Where everything stands.

    Attributes:
        boxes: by the step's name.
        lines: for each pair of steps the points that its line passes, from left to right.
    """

    width: float
    height: float
    boxes: Mapping[str, Box]
    lines: Mapping[tuple[str, str], tuple[tuple[float, float], ...]]


@dataclass
class _Item:
    """A step, or the place where a line passes a layer."""

    name: str
    layer: int
    before: list["_Item"] = field(default_factory=list)
    after: list["_Item"] = field(default_factory=list)
    middle: float = 0.0

    @property
    def height(self) -> float:
        return HEIGHT if self.name else 0.0


def lay_out(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> Layout:
    """Place steps and lines; an edge that would lead back, or to nowhere, is left out.

    ``nodes`` come in an order in which each stands after those it needs.

    Cost: a few passes over all edges; 200 steps take some milliseconds.
    """
    place = {name: number for number, name in enumerate(nodes)}
    kept = [
        (a, b) for a, b in dict.fromkeys(edges) if a in place and b in place and place[a] < place[b]
    ]
    items, chains = _build(list(place), kept)
    layers: list[list[_Item]] = []
    for item in items:
        while len(layers) <= item.layer:
            layers.append([])
        layers[item.layer].append(item)
    _order(layers)
    _spread(layers)
    boxes = {
        item.name: Box(_MARGIN + item.layer * (WIDTH + _ACROSS), item.middle - HEIGHT / 2)
        for item in items
        if item.name
    }
    lines = {pair: _points(chain) for pair, chain in chains.items()}
    width = 2 * _MARGIN + len(layers) * WIDTH + max(len(layers) - 1, 0) * _ACROSS
    height = _MARGIN + max((item.middle + item.height / 2 for item in items), default=0.0)
    return Layout(width, height, boxes, lines)


def _build(
    names: list[str], edges: list[tuple[str, str]]
) -> tuple[list[_Item], dict[tuple[str, str], list[_Item]]]:
    """Give each step its layer, and each line an item in every layer that it passes."""
    layer = dict.fromkeys(names, 0)
    needs: dict[str, list[str]] = {name: [] for name in names}
    for a, b in edges:
        needs[b].append(a)
    for name in names:
        layer[name] = max((layer[each] + 1 for each in needs[name]), default=0)
    steps = {name: _Item(name, layer[name]) for name in names}
    items = list(steps.values())
    chains = {}
    for a, b in edges:
        between = [_Item("", number) for number in range(layer[a] + 1, layer[b])]
        chain = [steps[a], *between, steps[b]]
        for one, other in itertools.pairwise(chain):
            one.after.append(other)
            other.before.append(one)
        items += between
        chains[a, b] = chain
    return items, chains


def _order(layers: list[list[_Item]]) -> None:
    """Sort each layer by the middle of its neighbours, to and fro; keep the best."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(_SWEEPS):
        is_forward = sweep % 2 == 0
        for layer in layers[1:] if is_forward else layers[-2::-1]:
            at = {
                id(item): number
                for near in (layers[layer[0].layer + (-1 if is_forward else 1)],)
                for number, item in enumerate(near)
            }
            keys = {}
            for number, item in enumerate(layer):
                near = item.before if is_forward else item.after
                places = [at[id(each)] for each in near]
                keys[id(item)] = sum(places) / len(places) if places else float(number)
            layer.sort(key=lambda item: keys[id(item)])
        found = _crossings(layers)
        if found < fewest:
            best, fewest = [list(layer) for layer in layers], found
    layers[:] = best


def _crossings(layers: list[list[_Item]]) -> int:
    """Count the pairs of lines that cross between neighbouring layers."""
    count = 0
    for left, right in itertools.pairwise(layers):
        at = {id(item): number for number, item in enumerate(right)}
        ends: list[int] = []
        for item in left:
            mine = sorted(at[id(each)] for each in item.after)
            count += sum(sum(end > each for end in ends) for each in mine)
            ends += mine
    return count


def _spread(layers: list[list[_Item]]) -> None:
    """Give each item a height: near the middle of its neighbours, and clear of the next one."""
    for layer in layers:
        _push(layer, [0.0] * len(layer))
    for sweep in range(_SWEEPS):
        is_forward = sweep % 2 == 0
        for layer in layers if is_forward else reversed(layers):
            wanted = []
            for item in layer:
                near = (item.before if is_forward else item.after) or [item]
                wanted.append(sum(each.middle for each in near) / len(near))
            _push(layer, wanted)
    top = min((item.middle - item.height / 2 for layer in layers for item in layer), default=0.0)
    for layer in layers:
        for item in layer:
            item.middle += _MARGIN - top


def _push(layer: list[_Item], wanted: list[float]) -> None:
    """Place items in their order, clear of each other, as near as can be to what is wanted.

    With the room that each item needs taken off, this is fitting a rising row by least squares:
    neighbours that would fall are pooled at their mean (pool adjacent violators).
    """
    room, taken = 0.0, []
    for number, item in enumerate(layer):
        if number:
            last = layer[number - 1]
            gap = _DOWN if last.name and item.name else _LINE_DOWN
            room += (last.height + item.height) / 2 + gap
        taken.append(room)
    pools: list[tuple[float, int]] = []  # Mean and count of each.
    for middle, used in zip(wanted, taken, strict=True):
        mean, count = middle - used, 1
        while pools and pools[-1][0] > mean:
            before, many = pools.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        pools.append((mean, count))
    fitted = [mean for mean, count in pools for _ in range(count)]
    for item, mean, used in zip(layer, fitted, taken, strict=True):
        item.middle = mean + used


def _points(chain: list[_Item]) -> tuple[tuple[float, float], ...]:
    points = []
    for item in chain:
        left = _MARGIN + item.layer * (WIDTH + _ACROSS)
        if item is not chain[0]:
            points.append((left, item.middle))
        if item is not chain[-1]:
            points.append((left + WIDTH, item.middle))
    return tuple(points)


# Drawing ---------------------------------------------------------------------------------------


def draw_dag(
    nodes: Sequence[str],
    edges: Sequence[tuple[str, str]],
    *,
    states: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    counts: Mapping[str, tuple[int, int]] | None = None,
    notes: Mapping[str, str] | None = None,
    title: str = "Steps",
    name: str = "dag",
) -> str:
    """Draw steps and what needs what as one SVG element.

    Args:
        nodes: names of the steps, each after those it needs.
        edges: pairs (step, step that needs it).
        states: by name, shown as a word, a sign and a class ``dag-STATE``.
        links: by name, where a click on the step leads.
        counts: by name, how much is done and out of how much: a bar in the box.
        notes: by name, a few words below its name; the state where there is none.
        title: what the drawing is, for those who do not see it.
        name: begins the ids in it; two drawings on one page need two.
    """
    layout = _lay_out_once(tuple(nodes), tuple(edges))
    told = _tell(nodes, edges, states or {})
    parts = [
        (
            f'<svg class="dag" id="{escape(name)}" viewBox="0 0 {layout.width:.0f}'
            f' {layout.height:.0f}" width="{layout.width:.0f}" height="{layout.height:.0f}"'
            f' role="group" aria-labelledby="{escape(name)}-title" aria-describedby="'
            f'{escape(name)}-desc"><title id="{escape(name)}-title">{_text(title)}</title>'
            f'<desc id="{escape(name)}-desc">{_text(told)}</desc>'
            f'<defs><marker id="{escape(name)}-tip" viewBox="0 0 8 8" refX="7" refY="4"'
            ' markerWidth="8" markerHeight="8" orient="auto"><path class="dag-tip"'
            ' d="M0 0L8 4L0 8z"/></marker></defs>'
        )
    ]
    parts += [_line(points, escape(name)) for points in layout.lines.values()]
    for number, (step, box) in enumerate(layout.boxes.items()):
        state = (states or {}).get(step, "")
        shown = _node(step, box, state, (counts or {}).get(step), (notes or {}).get(step))
        link = (links or {}).get(step)
        label = ": ".join(filter(None, [step, (notes or {}).get(step) or state]))
        opening = f'<g id="{escape(name)}-{number}" class="dag-node {_class(state)}"'
        if link is None:
            parts.append(f"{opening}>{shown}</g>")
        else:
            opening = opening.replace("<g", f'<a href="{escape(link)}"', 1)
            parts.append(f'{opening} aria-label="{_text(label)}">{shown}</a>')
    return "".join([*parts, "</svg>"])


@lru_cache(64)
def _lay_out_once(nodes: tuple[str, ...], edges: tuple[tuple[str, str], ...]) -> Layout:
    """Keep what was laid out last: a page that is watched asks for the same again and again."""
    return lay_out(nodes, edges)


def _tell(nodes: Sequence[str], edges: Sequence[tuple[str, str]], states: Mapping[str, str]) -> str:
    """Say in words what the drawing shows."""
    needs: dict[str, list[str]] = {}
    for before, after in edges:
        needs.setdefault(after, []).append(before)
    words = []
    for step in nodes:
        state = f" ({states[step]})" if states.get(step) else ""
        after = f" after {', '.join(needs[step])}" if step in needs else ""
        words.append(f"{step}{state}{after}")
    return "; ".join(words) + "." if words else "No steps."


def _line(points: Sequence[tuple[float, float]], name: str) -> str:
    (x, y), *rest = points
    path = [f"M{x:.1f} {y:.1f}"]
    for next_x, next_y in rest:
        if next_y == y:
            path.append(f"H{next_x:.1f}")
        else:
            half = (x + next_x) / 2
            path.append(f"C{half:.1f} {y:.1f} {half:.1f} {next_y:.1f} {next_x:.1f} {next_y:.1f}")
        x, y = next_x, next_y
    return f'<path class="dag-line" marker-end="url(#{name}-tip)" d="{"".join(path)}"/>'


def _node(step: str, box: Box, state: str, count: tuple[int, int] | None, note: str | None) -> str:
    sign = _SIGNS.get(state, "")
    left, words = box.x + 12, note or state
    parts = [
        f"<title>{_text(step)}{f': {_text(words)}' if words else ''}</title>",
        (
            f'<rect class="dag-box" x="{box.x:.1f}" y="{box.y:.1f}" width="{WIDTH}"'
            f' height="{HEIGHT}" rx="6"/>'
        ),
    ]
    if sign:
        parts.append(
            f'<text class="dag-sign" aria-hidden="true" x="{left:.1f}" y="{box.y + 23:.1f}">'
            f"{sign}</text>"
        )
        left += 20
    low = box.y + (23 if words else HEIGHT / 2 + 5)
    parts.append(f'<text class="dag-name" x="{left:.1f}" y="{low:.1f}">{_text(_clip(step))}</text>')
    if words:
        parts.append(
            f'<text class="dag-word" x="{left:.1f}" y="{box.y + 41:.1f}">'
            f"{_text(_clip(words, _LETTERS + 3))}</text>"
        )
    if count is not None and count[1] > 0:
        share = min(max(count[0] / count[1], 0.0), 1.0)
        room = WIDTH - 24
        bar = f'x="{box.x + 12:.1f}" y="{box.y + HEIGHT - 9:.1f}" height="4" rx="2"'
        parts.append(f'<rect class="dag-track" {bar} width="{room}"/>')
        if share:
            parts.append(f'<rect class="dag-fill" {bar} width="{max(share * room, 2):.1f}"/>')
    return "".join(parts)


def _class(state: str) -> str:
    return f"dag-{state}" if state in _SIGNS else "dag-plain"


def _clip(text: str, letters: int = _LETTERS) -> str:
    if len(text) <= letters:
        return text
    half = (letters - 1) // 2
    return f"{text[: letters - half - 1]}…{text[-half:]}"


def _text(value: str) -> str:
    """Write anything as text of XML; control characters made visible."""
    plain = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in value
    )
    return escape(plain)
