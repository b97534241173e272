// The list of runs: progress is written into its rows as it is told.
import { showProgress } from "./progress.mjs";

document.addEventListener("millpond:event", ({ detail }) => {
  if (detail.event !== "progress" || document.hidden) return;
  for (const row of document.querySelectorAll("tr[data-live]")) {
    if (row.dataset.live === `${detail.project} ${detail.topic}`) showProgress(row, detail.facts);
  }
});
