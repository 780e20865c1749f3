// Which tab this is. What a tab keeps for itself is copied when it is duplicated, its name too.

/**
 * Holds a name as long as the page is open: false where another tab has it. Browsers tell tabs apart on this computer and
 * over https; elsewhere every name is free.
 */
export function holds(name: string): Promise<boolean> {
  if (!("locks" in navigator)) return Promise.resolve(true);
  return new Promise((resolve) => {
    const held = navigator.locks.request(`phonofilm-tab-${name}`, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock === null ? undefined : new Promise<never>(() => undefined);
    });
    held.catch(() => resolve(true));
  });
}

export function newName(): string {
  return `${Date.now()}-${Math.random()}`;
}
