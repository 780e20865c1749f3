// Dark, light, or as the system has it. Kept in this browser.

import { forget, keep, kept } from "../lib/storage";

export type Theme = "system" | "dark" | "light";
const KEY = "phonofilm-theme";

function stored(): Theme {
  const value = kept(KEY);
  return value === "dark" || value === "light" ? value : "system";
}

export const theme = $state<{ now: Theme }>({ now: stored() });

export function setTheme(next: Theme): void {
  theme.now = next;
  if (next === "system") {
    forget(KEY);
    delete document.documentElement.dataset["theme"];
  } else {
    keep(KEY, next);
    document.documentElement.dataset["theme"] = next;
  }
}

setTheme(theme.now);
