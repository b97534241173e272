// Parts that no event tells of: <div id="jobs" data-every="5">. While it is shown, the page is asked
// for anew after so many seconds, and what differs comes in its place. A part that somebody is in
// with the keyboard stays as it is. One with data-from="ADDRESS" is asked for there instead, where
// the whole page would be much to make; an answer without it takes it away.
import { showTimes } from "./times.mjs";

const begun = new WeakMap();
let isAsking = false;

const parts = () => [...document.querySelectorAll("[data-every]")];

const isDue = (part) => {
  if (!begun.has(part)) begun.set(part, Date.now());
  return Date.now() - begun.get(part) >= part.dataset.every * 1000;
};

// What a part says, whatever zone its times are shown in.
function essence(part) {
  const copy = part.cloneNode(true);
  for (const time of copy.querySelectorAll("time")) time.textContent = time.dateTime;
  return copy.textContent.replace(/\s+/g, " ");
}

function renew(part, found, htmx) {
  begun.set(part, Date.now());
  if (part.matches(":focus-within")) return;
  if (!found) return part.dataset.from && part.remove();
  if (essence(found) === essence(part)) return;
  const fresh = document.adoptNode(found);
  part.replaceWith(fresh);
  htmx.process(fresh);
  showTimes(fresh);
}

async function lookAgain(due, htmx) {
  const places = new Set(due.map((part) => part.dataset.from ?? ""));
  for (const place of places) {
    const answer = await fetch(place || location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) continue;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts()) {
      if ((part.dataset.from ?? "") === place) renew(part, page.getElementById(part.id), htmx);
    }
  }
}

export function followClock(htmx) {
  const look = async (isShownAgain = false) => {
    const due = parts().filter((part) => isDue(part) || isShownAgain);
    if (document.hidden || isAsking || !due.length) return;
    isAsking = true;
    try {
      await lookAgain(due, htmx);
    } catch {
      for (const part of parts()) begun.set(part, Date.now()); // The server is away; later again.
    }
    isAsking = false;
  };
  setInterval(() => look(), 1000);
  document.addEventListener("visibilitychange", () => look(true));
}
