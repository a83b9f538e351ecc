// The theme: that of the system, or the one that was chosen. It runs before the page is drawn, so that nobody sees
// the wrong one first.
(() => {
  const KEY = "tollgate-theme";
  const NAMES = { system: "System", light: "Light", dark: "Dark" };
  const NEXT = { system: "light", light: "dark", dark: "system" };
  const root = document.documentElement;

  function chosen() {
    try {
      const name = localStorage.getItem(KEY);
      return name in NAMES ? name : "system";
    } catch {
      return root.dataset.theme || "system";
    }
  }

  function choose(name) {
    root.dataset.theme = name;
    try {
      localStorage.setItem(KEY, name);
    } catch {
      // Browsers may keep nothing; then it holds until the page is closed.
    }
  }

  root.dataset.theme = chosen();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      button.textContent = NAMES[root.dataset.theme];
      button.setAttribute("aria-label", `Theme: ${NAMES[root.dataset.theme]}`);
    };
    show();
    button.addEventListener("click", () => {
      choose(NEXT[root.dataset.theme]);
      show();
    });
  });
})();
