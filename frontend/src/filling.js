// The form of a run: a click on a dataset puts its name into the field; what was typed outlives a
// session that has ended.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-pick]");
  if (!button) return;
  const field = document.getElementById(button.dataset.pick);
  field.value = button.dataset.value;
  field.dispatchEvent(new CustomEvent("picked"));
  field.dispatchEvent(new Event("change", { bubbles: true }));
  field.focus();
});

// Its address follows what is typed, so that coming back to it, or loading it anew, gives it back.
const LONGEST = 8000;
const SETTLED = 300; // Milliseconds: browsers bound how often an address may change.
let waiting = 0;

function addressOf(form) {
  const typed = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (/^(inputs\.|parameters\.|version$|as_json$)/.test(name)) typed.append(name, value);
  }
  return `${form.getAttribute("action")}?${typed}`;
}

function keepTyped() {
  clearTimeout(waiting);
  const form = document.getElementById("run-form");
  const address = form ? addressOf(form) : "";
  if (form && address.length <= LONGEST) history.replaceState(history.state, "", address);
}

for (const [kind, pause] of [["input", SETTLED], ["change", 0]]) {
  document.addEventListener(kind, (event) => {
    if (!event.target.closest("#run-form")) return;
    clearTimeout(waiting);
    if (pause) waiting = setTimeout(keepTyped, pause);
    else keepTyped();
  });
}

// Who must sign in first comes back to the form as it stood: its address can hold all of it.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const form = document.getElementById("run-form");
  if (!form || event.detail.xhr.status !== 401) return;
  event.preventDefault();
  location.assign(`/sign-in?${new URLSearchParams({ next: addressOf(form) })}`);
});
