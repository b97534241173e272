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
  // Where there are too many, the tabs that asked last come first.
  stream.want([...tabs.values()].sort((a, b) => b.asked - a.asked).flatMap((tab) => tab.places));
}

self.onconnect = (event) => {
  const [port] = event.ports;
  port.onmessage = ({ data }) => {
    const tab = tabs.get(port) ?? { places: [], asked: 0 };
    const now = Date.now();
    if (data.kind === "want") tabs.set(port, { places: data.places, asked: now, heard: now });
    else tabs.set(port, { ...tab, heard: now });
    if (data.kind === "want") {
      update();
      if (isOpen) port.postMessage({ kind: "open" });
    }
  };
  port.start();
};
setInterval(update, 15000);
