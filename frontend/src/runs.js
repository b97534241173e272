// The list of runs: what an event says of a run's progress is written into its row; no request.
const whole = new Intl.NumberFormat();

function seconds(count) {
  if (count < 60) return `${Math.round(count)} s`;
  if (count < 3600) return `${Math.floor(count / 60)} min ${Math.round(count % 60)} s`;
  return `${Math.floor(count / 3600)} h ${Math.floor((count % 3600) / 60)} min`;
}

document.addEventListener("millpond:event", ({ detail }) => {
  if (detail.event !== "progress" || document.hidden) return;
  for (const row of document.querySelectorAll("tr[data-live]")) {
    if (row.dataset.live !== `${detail.project} ${detail.topic}`) continue;
    const told = detail.facts;
    const hasItems = told.items_total > 0;
    const done = hasItems ? told.items_done : told.steps_done;
    const total = hasItems ? told.items_total : told.steps_total;
    const bar = row.querySelector("progress");
    if (bar && total) {
      bar.max = total;
      bar.value = done;
    }
    const words = row.querySelector("[data-words]");
    if (!words) continue;
    const left = told.seconds_left === null ? "" : `, ${seconds(told.seconds_left)} left`;
    const unit = hasItems ? told.unit : "steps";
    words.textContent = `${whole.format(done)} of ${whole.format(total)} ${unit}${left}`;
  }
});
