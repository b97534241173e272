// Draw <div data-plot='{"x": [...], "series": [{"label": "...", "values": [...]}]}'> with uPlot.
import uPlot from "uplot";

const COLOURS = ["#206bc4", "#d63939", "#2fb344", "#f59f00", "#ae3ec9", "#17a2b8"];

export function draw(place) {
  if (place.dataset.isDrawn) return;
  place.dataset.isDrawn = "yes";
  const facts = JSON.parse(place.dataset.plot);
  const ink = () => getComputedStyle(place).color;
  const grid = () => getComputedStyle(place).getPropertyValue("--tblr-border-color") || "#ccc";
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
  const options = {
    width: Math.max(place.clientWidth, 240),
    height: Number(place.dataset.height ?? 200),
    scales: { x: { time: facts.time === true } },
    axes: [{ ...axis }, { ...axis, label: facts.unit, size: 64 }],
    series: [
      { label: facts.x_label ?? "" },
      ...facts.series.map((each, index) => ({
        label: each.label,
        stroke: COLOURS[index % COLOURS.length],
        fill: facts.bars ? `${COLOURS[index % COLOURS.length]}55` : undefined,
        paths: facts.bars ? uPlot.paths.bars({ size: [0.7, 80] }) : undefined,
        width: 2,
      })),
    ],
  };
  if (facts.labels) {
    options.axes[0].values = (_, ticks) => ticks.map((tick) => facts.labels[tick] ?? "");
    options.axes[0].splits = () => facts.labels.map((_, index) => index);
    options.scales.x.range = [-0.6, facts.labels.length - 0.4];
  }
  if (facts.bars) options.scales.y = { range: (_, __, most) => [0, most * 1.05 || 1] }; // A bar begins at 0.
  const plot = new uPlot(options, [facts.x, ...facts.series.map((each) => each.values)], place);
  new ResizeObserver(() => {
    const width = Math.max(place.clientWidth, 240);
    if (width !== plot.width) plot.setSize({ width, height: options.height });
  }).observe(place);
}
