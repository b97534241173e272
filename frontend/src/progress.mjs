// What an event says of a run's progress is written where it is shown: that takes no request.
const whole = new Intl.NumberFormat();

function seconds(count) {
  if (count < 60) return `${Math.round(count)} s`;
  if (count < 3600) return `${Math.floor(count / 60)} min ${Math.round(count % 60)} s`;
  return `${Math.floor(count / 3600)} h ${Math.floor((count % 3600) / 60)} min`;
}

export function showProgress(place, told) {
  const hasItems = told.items_total > 0;
  const done = hasItems ? told.items_done : told.steps_done;
  const total = hasItems ? told.items_total : told.steps_total;
  const bar = place.querySelector("progress");
  if (bar && total) {
    bar.max = total;
    bar.value = done;
  }
  const words = place.querySelector("[data-words]");
  const unit = hasItems ? told.unit : "steps";
  if (words) words.textContent = `${whole.format(done)} of ${whole.format(total)} ${unit}`;
  const left = place.querySelector("[data-left]");
  if (left && told.seconds_left !== null) left.textContent = `${seconds(told.seconds_left)} left`;
}
