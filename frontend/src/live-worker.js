// The shared worker: keeps one stream for all tabs, and tells each what it follows.
import { Stream } from "./stream.mjs";

const GONE = 45000; // A hidden tab's timers may run once a minute; it follows nothing meanwhile.
const tabs = new Map();
let isOpen = false;

const stream = new Stream((message) => {
  if (message.kind !== "event") isOpen = message.kind === "open";
  for (const [port, tab] of tabs) {
    const place = `${message.project} ${message.topic}`;
    if (message.kind !== "event" || tab.places.includes(place)) port.postMessage(message);
  }
});

function update() {
  const oldest = Date.now() - GONE;
  for (const [port, tab] of tabs) if (tab.places.length && tab.heard < oldest) tabs.delete(port);
  stream.want([...new Set([...tabs.values()].flatMap((tab) => tab.places))]);
}

self.onconnect = (event) => {
  const [port] = event.ports;
  port.onmessage = ({ data }) => {
    const tab = tabs.get(port) ?? { places: [] };
    tabs.set(port, { places: data.kind === "want" ? data.places : tab.places, heard: Date.now() });
    if (data.kind === "want") {
      update();
      if (isOpen) port.postMessage({ kind: "open" });
    }
  };
  port.start();
};
setInterval(update, 15000);
