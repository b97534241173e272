// Draw <div data-plot='{"x": [...], "series": [{"label": "...", "values": [...]}]}'> with uPlot.
// A small one has no legend; `from_zero` keeps the y axis at 0, `most` fixes its other end, and
// `least` keeps it from being lower. Where nobody points, the legend of times tells the newest.
import uPlot from "uplot";

const COLOURS = ["#206bc4", "#d63939", "#2fb344", "#f59f00", "#ae3ec9", "#17a2b8"];

const plots = new WeakMap();

// Show other numbers in a plot that is drawn; `facts` has the same series.
export function update(place, facts) {
  const plot = plots.get(place);
  place.dataset.plot = JSON.stringify(facts);
  plot?.setData([facts.x, ...facts.series.map((each) => each.values)]);
}

export function draw(place) {
  if (place.dataset.isDrawn) return;
  place.dataset.isDrawn = "yes";
  const facts = JSON.parse(place.dataset.plot);
  const ink = () => getComputedStyle(place).color;
  const grid = () => getComputedStyle(place).borderTopColor; // Resolved, as a variable is not.
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
  const options = {
    width: Math.max(place.clientWidth, facts.small ? 120 : 240),
    height: Number(place.dataset.height ?? 200),
    legend: { show: !facts.small },
    cursor: { show: !facts.small },
    scales: { x: { time: facts.time === true } },
    axes: [{ ...axis }, { ...axis, label: facts.unit, size: 64, values: (_, ticks) => ticks.map(shortNumber) }],
    series: [
      { label: facts.x_label ?? "", value: (_, x) => written(facts, x) },
      ...facts.series.map((each, index) => ({
        label: each.label,
        stroke: COLOURS[index % COLOURS.length],
        value: (plot, value, row, place) =>
          place == null ? (facts.time ? shortNumber(newest(plot.data[row])) : "") : shortNumber(value) || "–",
        fill: facts.bars ? `${COLOURS[index % COLOURS.length]}55` : undefined,
        paths: facts.bars ? uPlot.paths.bars({ size: [0.7, 80] }) : undefined,
        width: 2,
        points: facts.bars ? { show: false } : {},
      })),
    ],
  };
  if (facts.labels) {
    options.axes[0].values = (_, ticks) => ticks.map((tick) => facts.labels[tick] ?? "");
    options.axes[0].splits = (plot) => {
      const widest = 8 * Math.max(...facts.labels.map((label) => label.length)) + 8; // Pixels, about.
      const every = Math.ceil((facts.labels.length * widest) / Math.max(plot.width - 80, widest));
      return facts.labels.map((_, index) => index).filter((index) => index % every === 0);
    };
    options.scales.x.range = [-0.6, facts.labels.length - 0.4];
  }
  if (facts.bars) options.scales.y = { range: (_, __, most) => [0, most * 1.05 || 1] }; // A bar begins at 0.
  if (facts.from_zero) {
    options.scales.y = { range: (_, __, most) => [0, facts.most ?? (Math.max(most * 1.05, facts.least ?? 0) || 1)] };
  }
  if (facts.small) {
    const font = "11px system-ui, sans-serif";
    const small = { ...axis, font, ticks: { ...axis.ticks, size: 3 } };
    options.axes = [
      { ...small, size: 26, space: 50, values: shortTimes },
      // Naught and one more, however low the plot is.
      { ...small, size: 40, splits: (plot) => [0, roundBelow(plot.scales.y.max)], values: (_, ticks) => ticks.map(shortNumber) },
    ];
  } else if (facts.time) {
    options.axes[0].values = shortTimes;
    options.axes[0].space = 60;
  }
  const plot = new uPlot(options, [facts.x, ...facts.series.map((each) => each.values)], place);
  plots.set(place, plot);
  new ResizeObserver(() => {
    const width = Math.max(place.clientWidth, facts.small ? 120 : 240);
    if (width !== plot.width) plot.setSize({ width, height: options.height });
  }).observe(place);
}

// The largest of 1, 2 and 5 times a power of ten that is not above a number.
function roundBelow(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].find((first) => first * power <= most * 1.0001) * power;
}

const numbers = new Intl.NumberFormat("en", { maximumSignificantDigits: 4, useGrouping: false });

function shortNumber(value) {
  return value == null ? "" : numbers.format(value);
}

function newest(values) {
  return values.findLast((value) => value != null);
}

// What stands at a place of the x axis, in words.
function written(facts, x) {
  if (x == null) return facts.time ? "newest" : "";
  if (facts.labels) return facts.labels[x] ?? "";
  return facts.time ? moment.format(new Date(x * 1000)) : shortNumber(x);
}

const moment = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

function shortTimes(plot, ticks) {
  const [first, last] = [plot.scales.x.min, plot.scales.x.max];
  const format = last - first > 2 * 86400 ? date : clock;
  return ticks.map((tick) => format.format(new Date(tick * 1000)));
}
