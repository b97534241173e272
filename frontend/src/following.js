// What is written while somebody looks, such as a build's log: an element with data-poll asks for
// more every second while its tab is shown, and htmx fetches what it names.
const PAUSE = 1000;

function ask() {
  if (document.hidden) return;
  for (const element of document.querySelectorAll("[data-poll]")) {
    const box = element.closest("pre");
    // Who has scrolled up reads; who is at the end follows.
    if (box) box.dataset.atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40 ? "yes" : "";
    element.dispatchEvent(new CustomEvent("live"));
  }
}

document.addEventListener("htmx:afterSettle", (event) => {
  const box = event.target.closest?.("pre[data-at-end=yes]");
  if (box) box.scrollTop = box.scrollHeight;
});
document.addEventListener("visibilitychange", ask);
setInterval(ask, PAUSE);
