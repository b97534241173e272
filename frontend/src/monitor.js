// Pages of meters: <div data-monitor="ADDRESS" data-seconds="5" data-nodes="local a"> asks its
// address again from time to time, while somebody sees it, and brings its plots, tables and texts
// up to date. A node that is new or gone is shown by loading the page anew.
import { update } from "./plot.mjs";
import { showTimes } from "./times.mjs";

const place = document.querySelector("[data-monitor]");
let asked = 0;

function fill(table, facts) {
  const body = table.tBodies[0];
  body.replaceChildren();
  for (let row = facts.x.length - 1; row >= 0; row -= 1) {
    const line = body.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.className = "fw-normal text-nowrap";
    const time = document.createElement("time");
    time.dateTime = new Date(facts.x[row] * 1000).toISOString();
    head.append(time);
    line.append(head);
    for (const each of facts.series) line.insertCell().textContent = each.values[row] ?? "–";
  }
  showTimes(table);
}

function show({ nodes, plots, texts }) {
  if (nodes.join(" ") !== place.dataset.nodes) return location.reload();
  for (const [key, text] of Object.entries(texts)) {
    const found = document.querySelector(`[data-text="${CSS.escape(key)}"]`);
    if (found && found.textContent !== text) found.textContent = text;
  }
  for (const [key, { facts, said }] of Object.entries(plots)) {
    const plot = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!plot) continue;
    plot.setAttribute("aria-label", said);
    update(plot, facts);
    const table = document.querySelector(`[data-table="${CSS.escape(key)}"]`);
    if (table?.closest("details").open) fill(table, facts);
  }
}

async function ask() {
  if (document.hidden) return;
  asked = Date.now();
  try {
    const answer = await fetch(place.dataset.monitor, { headers: { Accept: "application/json" } });
    if (answer.ok && !answer.redirected) show(await answer.json());
  } catch {
    // The server is away just now: the next time asks again.
  }
}

if (place) {
  const pause = Number(place.dataset.seconds) * 1000;
  setInterval(ask, pause);
  document.addEventListener("visibilitychange", () => {
    if (Date.now() - asked >= pause) ask();
  });
  place.addEventListener(
    "toggle",
    (event) => {
      const table = event.target.querySelector("[data-table]");
      const key = table && CSS.escape(table.dataset.table);
      const plot = table && document.querySelector(`[data-key="${key}"]`);
      if (event.target.open && plot) fill(table, JSON.parse(plot.dataset.plot));
    },
    true,
  );
}
