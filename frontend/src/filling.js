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

// Who must sign in first comes back to the form as it stood: its address can hold all of it.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const form = document.getElementById("run-form");
  if (!form || event.detail.xhr.status !== 401) return;
  event.preventDefault();
  const typed = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (/^(inputs\.|parameters\.|version$|as_json$)/.test(name)) typed.append(name, value);
  }
  const next = `${form.getAttribute("action")}?${typed}`;
  location.assign(`/sign-in?${new URLSearchParams({ next })}`);
});
