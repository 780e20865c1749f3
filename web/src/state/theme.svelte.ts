// Dark, light, or as the system has it. Kept in this browser.

export type Theme = "system" | "dark" | "light";
const KEY = "phonofilm-theme";

function stored(): Theme {
  const value = localStorage.getItem(KEY);
  return value === "dark" || value === "light" ? value : "system";
}

export const theme = $state<{ now: Theme }>({ now: stored() });

export function setTheme(next: Theme): void {
  theme.now = next;
  if (next === "system") {
    localStorage.removeItem(KEY);
    delete document.documentElement.dataset["theme"];
  } else {
    localStorage.setItem(KEY, next);
    document.documentElement.dataset["theme"] = next;
  }
}

setTheme(theme.now);
