// Live parts of a page: <div data-live="PROJECT TOPIC" hx-get="..." hx-trigger="live">.
// One connection serves all tabs of a browser (a shared worker keeps it), for browsers allow six
// to one address. Hidden tabs rest; a shown tab asks anew. Where there are no shared workers, a
// shown tab keeps a connection of its own.
import { Stream } from "./stream.mjs";

const PAUSE = 500; // Milliseconds between two refreshings of one element.
const last = new WeakMap();
const due = new WeakSet();

function wanted() {
  const places = [...document.querySelectorAll("[data-live]")].map((each) => each.dataset.live);
  return document.hidden ? [] : [...new Set(places)].sort();
}

function refresh(element, htmx) {
  if (due.has(element)) return;
  due.add(element);
  const wait = Math.max(0, (last.get(element) ?? 0) + PAUSE - Date.now());
  setTimeout(() => {
    due.delete(element);
    if (!element.isConnected || document.hidden) return;
    last.set(element, Date.now());
    htmx.trigger(element, "live");
  }, wait);
}

function show(state) {
  const mark = document.getElementById("live-state");
  if (!mark) return;
  mark.hidden = state === "open" || !document.querySelector("[data-live]");
}

export function followLive(htmx) {
  const each = (place) => {
    for (const element of document.querySelectorAll("[data-live]")) {
      if (place === null || element.dataset.live === place) refresh(element, htmx);
    }
  };
  let isKnown = false; // Whether the connection was open before: then something may be missed.
  const hear = (message) => {
    if (message.kind === "event") {
      const place = `${message.project} ${message.topic}`;
      document.dispatchEvent(new CustomEvent("millpond:event", { detail: message }));
      return each(place);
    }
    show(message.kind);
    if (message.kind === "open") {
      if (isKnown) each(null);
      isKnown = true;
    }
  };
  const connection = connect(hear);
  let told = "";
  const tell = () => {
    const places = wanted();
    if (places.join("\n") === told) return;
    told = places.join("\n");
    connection(places);
  };
  tell();
  document.addEventListener("htmx:load", tell);
  document.addEventListener("htmx:afterSettle", tell);
  document.addEventListener("visibilitychange", () => {
    tell();
    if (!document.hidden) each(null);
  });
  addEventListener("pagehide", () => connection([]));
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    told = "";
    tell();
    each(null);
  });
}

// Give a function that takes the places wanted.
function connect(hear) {
  const script = document.querySelector('meta[name="millpond-live"]')?.content;
  if (typeof SharedWorker === "function" && script) {
    try {
      const { port } = new SharedWorker(script, { type: "module", name: "millpond-live" });
      port.onmessage = (event) => hear(event.data);
      port.start();
      setInterval(() => port.postMessage({ kind: "here" }), 10000);
      return (places) => port.postMessage({ kind: "want", places });
    } catch {
      // As below.
    }
  }
  const stream = new Stream(hear);
  return (places) => stream.want(places);
}
