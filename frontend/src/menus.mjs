// Menus are <details class="menu">: Escape and a click elsewhere close them.
export function closeMenus() {
  const others = (kept) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(kept)) menu.open = false;
    }
  };
  document.addEventListener("click", (event) => others(event.target));
  document.addEventListener("focusin", (event) => others(event.target));
  document.addEventListener("keydown", (event) => {
    const menu = event.key === "Escape" && document.activeElement?.closest("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
