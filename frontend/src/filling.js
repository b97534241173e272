// The form of a run: a click on a dataset puts its name into the field.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-pick]");
  if (!button) return;
  const field = document.getElementById(button.dataset.pick);
  field.value = button.dataset.value;
  field.dispatchEvent(new CustomEvent("picked"));
  field.dispatchEvent(new Event("change", { bubbles: true }));
  field.focus();
});
