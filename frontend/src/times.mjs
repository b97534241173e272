// <time datetime="..."> in the reader's zone and words; the full time shows on pointing at it.
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const STEPS = [
  ["second", 1, 60],
  ["minute", 60, 3600],
  ["hour", 3600, 86400],
  ["day", 86400, 7 * 86400],
];

function words(date) {
  const seconds = (date - Date.now()) / 1000;
  for (const [unit, size, until] of STEPS) {
    if (Math.abs(seconds) < until) return relative.format(Math.round(seconds / size), unit);
  }
  return day.format(date);
}

export function showTimes(root) {
  for (const place of root.querySelectorAll("time[datetime]")) {
    const date = new Date(place.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    place.title = full.format(date);
    const text = "exact" in place.dataset ? full.format(date) : words(date);
    if (place.textContent !== text) place.textContent = text;
  }
}
