// A form with data-confirm asks first, in a dialog of the browser's own making.
export function confirmForms() {
  document.addEventListener(
    "submit",
    (event) => {
      const form = event.target;
      if (!form.dataset.confirm || form.dataset.isConfirmed) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      ask(form, event.submitter);
    },
    true,
  );
}

function ask(form, submitter) {
  const dialog = document.getElementById("confirm");
  const verb = dialog.querySelector("[data-yes]");
  dialog.querySelector("[data-ask]").textContent = form.dataset.confirm;
  dialog.querySelector("[data-detail]").textContent = form.dataset.detail ?? "";
  verb.textContent = form.dataset.verb ?? "Yes";
  verb.className = `btn ${form.dataset.danger ? "btn-danger" : "btn-primary"}`;
  dialog.returnValue = "";
  dialog.onclose = () => {
    if (dialog.returnValue !== "yes") return submitter?.focus();
    form.dataset.isConfirmed = "yes";
    form.requestSubmit(submitter);
    delete form.dataset.isConfirmed;
  };
  dialog.showModal();
}
