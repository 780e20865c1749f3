// The library as it is filtered: pages of clips, loaded as they come into view.
import { getShelves, listClips, restoreClips, trashClips, type ClipQuery } from "../api/calls";
import { explain } from "../api/faults";
import type { Shelves, StudioClip } from "../api/types";
import { plural } from "../lib/format";
import { attempt, complain, say } from "../state/notices.svelte";
import { library } from "../state/queue.svelte";

export interface Filters {
  q: string;
  tags: string[];
  folder: string | null;
  model: string | null;
  favourite: boolean;
  trashed: boolean;
  sort: "newest" | "oldest" | "longest";
}

// What a large screen shows comes first, and soon also over a slow line.
const FIRST_PAGE = 60;
const PAGE = 200;
// As many as the server takes at once.
const BATCH = 500;
export const filters = $state<Filters>({
  q: "",
  tags: [],
  folder: null,
  model: null,
  favourite: false,
  trashed: false,
  sort: "newest",
});
interface Shelf {
  clips: StudioClip[];
  total: number;
  next: string | null;
  loaded: boolean;
  shelves: Shelves | null;
  /** Why the clips could not be listed, as a sentence. */
  trouble: string | null;
}

export const shelf = $state<Shelf>({
  clips: [],
  total: 0,
  next: null,
  loaded: false,
  shelves: null,
  trouble: null,
});
/** Where the list was left, and under which filters. */
export const left = { filters: "", top: 0, current: 0 };
export const picked = $state<{ ids: string[] }>({ ids: [] });

let asked: AbortController | null = null;
let loadingMore = false;

export function hasFilters(): boolean {
  return filters.q !== "" || filters.tags.length > 0 || filters.folder !== null || filters.favourite || filters.model !== null;
}

function queryNow(): ClipQuery {
  const { q, tags, folder, model, favourite, trashed, sort } = filters;
  return { q, tag: tags, folder, model, favourite, trashed, sort };
}

/** The first pages again; as many clips as were shown, so that the place in the list is kept. */
export async function reload(keepPlace: boolean): Promise<void> {
  asked?.abort();
  const mine = new AbortController();
  asked = mine;
  try {
    const wanted = keepPlace ? shelf.clips.length : 0;
    const [found, shelves] = await Promise.all([listClips({ ...queryNow(), limit: FIRST_PAGE }, mine.signal), getShelves()]);
    const clips = found.data;
    let next = found.next_cursor;
    while (next !== null && clips.length < wanted) {
      const more = await listClips({ ...queryNow(), limit: PAGE, cursor: next }, mine.signal);
      clips.push(...more.data);
      next = more.next_cursor;
    }
    if (mine.signal.aborted) return;
    Object.assign(shelf, { clips, total: found.total, next, loaded: true, shelves, trouble: null });
    const there = new Set(clips.map((clip) => clip.id));
    if (next === null) picked.ids = picked.ids.filter((id) => there.has(id));
  } catch (error) {
    if (mine.signal.aborted) return;
    if (shelf.loaded) complain(error);
    else shelf.trouble = explain(error);
  }
}

/** Loads on until the clip at `index` is there. */
export async function loadTo(index: number): Promise<void> {
  if (loadingMore) return;
  loadingMore = true;
  try {
    while (shelf.next !== null && shelf.clips.length <= Math.min(index, shelf.total - 1)) {
      const [current, cursor] = [asked, shelf.next];
      const found = await listClips({ ...queryNow(), limit: PAGE, cursor });
      // The list was asked for anew, or came: this page follows the old one.
      if (current !== asked || cursor !== shelf.next) continue;
      const there = new Set(shelf.clips.map((clip) => clip.id));
      shelf.clips.push(...found.data.filter((clip) => !there.has(clip.id)));
      shelf.next = found.next_cursor;
    }
  } catch (error) {
    complain(error);
  } finally {
    loadingMore = false;
  }
}

export function replaceClip(clip: StudioClip): void {
  const index = shelf.clips.findIndex((one) => one.id === clip.id);
  if (index >= 0) shelf.clips[index] = clip;
}

/** Every clip that is shown or would be shown further down. */
export async function pickAll(): Promise<void> {
  await loadTo(shelf.total - 1);
  picked.ids = shelf.clips.map((clip) => clip.id);
}

/** Any number of clips, in as many requests as it takes. */
export async function inBatches(ids: string[], send: (some: string[]) => Promise<unknown>): Promise<void> {
  for (let start = 0; start < ids.length; start += BATCH) await send(ids.slice(start, start + BATCH));
}

const going = new Set<string>();

/** Into the trash, with a way back, said after `then`; whether it was done. What is on its way there is not sent again. */
export async function trash(wanted: string[], then: () => unknown = () => undefined): Promise<boolean> {
  const ids = wanted.filter((id) => !going.has(id));
  if (ids.length === 0) return false;
  for (const id of ids) going.add(id);
  const done = await attempt(async () => {
    await inBatches(ids, trashClips);
    picked.ids = picked.ids.filter((id) => !ids.includes(id));
    library.revision += 1;
    then();
    say(`${plural(ids.length, "clip")} deleted.`, { label: "Undo", run: () => void restore(ids) });
  });
  for (const id of ids) going.delete(id);
  return done;
}

export async function restore(ids: string[]): Promise<void> {
  await attempt(async () => {
    await inBatches(ids, restoreClips);
    picked.ids = [];
    library.revision += 1;
  });
}
