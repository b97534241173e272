// What is written while somebody looks, such as a build's log: an element with data-poll asks for
// more every second while it can be seen, and htmx fetches what it names. Where the server is away
// it goes on asking.
const PAUSE = 1000;

function ask() {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("[data-poll]")) {
    if (!element.getClientRects().length) continue; // In a part that is folded up.
    const box = element.closest("pre");
    // Who has scrolled up reads; who is at the end follows.
    const left = box.scrollHeight - box.scrollTop - box.clientHeight;
    box.dataset.atEnd = left < 40 ? "yes" : "";
    element.dispatchEvent(new CustomEvent("live"));
  }
}

document.addEventListener("htmx:afterSettle", (event) => {
  const box = event.target.closest?.("pre[data-at-end=yes]");
  if (box) box.scrollTop = box.scrollHeight;
});
document.addEventListener("visibilitychange", ask);
document.addEventListener("toggle", ask, true);
addEventListener("load", ask);
setInterval(ask, PAUSE);
