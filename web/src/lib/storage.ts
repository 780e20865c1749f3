// What this browser keeps. It may keep nothing, where site data is blocked or the room is used up: the page works all the same.

/** For all tabs and days, or for this tab alone. */
type Where = "localStorage" | "sessionStorage";

export function kept(key: string, where: Where = "localStorage"): string | null {
  try {
    return window[where].getItem(key);
  } catch {
    return null;
  }
}

/** Whether it was kept. */
export function keep(key: string, value: string, where: Where = "localStorage"): boolean {
  try {
    window[where].setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

export function forget(key: string): void {
  try {
    localStorage.removeItem(key);
  } catch {
    // Nothing was kept.
  }
}

/** What was kept as JSON, or null. Its shape is not known: an older page may have written it, or a person. */
export function keptJson(key: string, where: Where = "localStorage"): unknown {
  try {
    return JSON.parse(kept(key, where) ?? "null");
  } catch {
    return null;
  }
}
