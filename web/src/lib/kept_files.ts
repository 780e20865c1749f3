// Files that this browser keeps for a form over a reload. Where it keeps none, the form begins without them.

const STORE = "files";
const LONGEST_MS = 24 * 3600 * 1000;

interface Kept {
  at: number;
  value: unknown;
}

/** Under this name, in the place of what was there. Blobs within `value` are kept with it. */
export async function keepFiles(name: string, value: unknown): Promise<void> {
  await within((store) => store.put({ at: Date.now(), value } satisfies Kept, name)).catch(() => undefined);
}

/** What was kept under this name within the last day, or null. What is older goes. */
export async function keptFiles(name: string): Promise<unknown> {
  try {
    const found = (await within((store) => store.get(name))) as Kept | undefined;
    const names = await within((store) => store.getAllKeys());
    for (const one of names) {
      const kept = (await within((store) => store.get(one))) as Kept;
      if (Date.now() - kept.at > LONGEST_MS) await within((store) => store.delete(one));
    }
    return found?.value ?? null;
  } catch {
    return null;
  }
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("nothing is kept"));
  });
}

async function within<T>(work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const opening = indexedDB.open("phonofilm", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await settled(opening);
  try {
    return await settled(work(database.transaction(STORE, "readwrite").objectStore(STORE)));
  } finally {
    database.close();
  }
}
