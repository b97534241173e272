// Parts that no event tells of: <div id="jobs" data-every="5">. While it is shown, the page is asked
// for anew after so many seconds, and what differs comes in its place. A part that somebody is in
// with the keyboard stays as it is.
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

async function lookAgain(htmx) {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of parts()) {
    const found = page.getElementById(part.id);
    begun.set(part, Date.now());
    if (!found || part.matches(":focus-within") || essence(found) === essence(part)) continue;
    const fresh = document.adoptNode(found);
    part.replaceWith(fresh);
    htmx.process(fresh);
    showTimes(fresh);
  }
}

export function followClock(htmx) {
  const look = async (isShownAgain = false) => {
    const due = parts().filter((part) => isDue(part) || isShownAgain);
    if (document.hidden || isAsking || !due.length) return;
    isAsking = true;
    try {
      await lookAgain(htmx);
    } catch {
      for (const part of parts()) begun.set(part, Date.now()); // The server is away; later again.
    }
    isAsking = false;
  };
  setInterval(() => look(), 1000);
  document.addEventListener("visibilitychange", () => look(true));
}
