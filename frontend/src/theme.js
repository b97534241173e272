// Before the first paint: dress the page as its reader's system is dressed, unless they chose.
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
function dress() {
  const chosen = root.dataset.theme;
  root.dataset.bsTheme = chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen;
}
dress();
dark.addEventListener("change", dress);
