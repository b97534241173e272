// What every page does: times in the reader's zone, copying, confirming, menus, live parts, plots.
import htmx from "htmx.org";
import { followClock } from "./again.mjs";
import { confirmForms } from "./confirm.mjs";
import { followLive } from "./live.mjs";
import { closeMenus } from "./menus.mjs";
import { showTimes } from "./times.mjs";

function copyText(event) {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.dataset.copy || button.parentElement.querySelector("code").textContent;
  navigator.clipboard.writeText(text.trim()).then(
    () => say(`Copied: ${text.trim().slice(0, 80)}`),
    () => say("This browser does not let a page copy. Select the text and copy it yourself.", true),
  );
}

// Say something that passes: screen readers hear it, and it fades.
export function say(text, isFault = false) {
  const place = document.getElementById("toasts");
  const box = document.createElement("div");
  box.className = `toast show mb-2 ${isFault ? "border-danger" : ""}`;
  const body = document.createElement("div");
  body.className = "toast-body";
  body.textContent = text;
  box.append(body);
  place.append(box);
  setTimeout(() => box.remove(), isFault ? 12000 : 4000);
}

async function drawPlots(root) {
  const places = [...root.querySelectorAll("[data-plot]")];
  if (root.matches?.("[data-plot]")) places.push(root);
  if (!places.length) return;
  const { draw } = await import("./plot.mjs");
  places.forEach(draw);
}

function failed(event) {
  const { xhr } = event.detail;
  let text = "";
  try {
    const problem = JSON.parse(xhr.responseText);
    text = [problem.detail ?? problem.title, problem.next_step].filter(Boolean).join(" ");
  } catch {
    text = xhr.getResponseHeader("x-millpond-fault") ?? "";
    try {
      text = decodeURIComponent(text);
    } catch {
      // As it came.
    }
  }
  if (!event.target.closest?.("[data-live]")) say(text || "The server did not answer. Try again.", true);
}

// On a narrow screen the menu of a project scrolls: where one is shall be seen.
function showWhere() {
  const menu = document.querySelector(".project-nav");
  const here = menu?.querySelector("[aria-current]");
  if (!here) return;
  const [whole, part] = [menu.getBoundingClientRect(), here.getBoundingClientRect()];
  menu.scrollLeft += part.left + part.width / 2 - whole.left - whole.width / 2;
}

showWhere();
document.addEventListener("click", copyText);
document.addEventListener("htmx:responseError", failed);
document.addEventListener("htmx:sendError", (event) => {
  if (!event.target.closest?.("[data-live]")) say("The server cannot be reached just now.", true);
});
// Faults of a form come as 422 with the form in it: they are shown, not thrown away.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status === 422) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});
document.addEventListener("htmx:load", (event) => {
  showTimes(event.detail.elt);
  drawPlots(event.detail.elt);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
});
// A second click on a form that is on its way does nothing.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.dataset.isSent) return event.preventDefault();
  form.dataset.isSent = "yes";
  setTimeout(() => delete form.dataset.isSent, 5000);
});
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-is-sent]")) delete form.dataset.isSent;
});

confirmForms();
closeMenus();
followLive(htmx, say);
followClock(htmx);
setInterval(() => showTimes(document), 30000);
