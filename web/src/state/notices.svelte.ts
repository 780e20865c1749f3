// Short messages at the edge of the page, some with a button such as Undo.
import { explain } from "../api/faults";
import { route, type Place } from "./route.svelte";

export interface Notice {
  id: number;
  text: string;
  bad: boolean;
  /** How often it was said: equal ones are one. */
  times: number;
  /** The part of the page that it was said in. */
  place: Place;
  /** leads: the address that it opens. Who is there by another way needs the message no more. */
  action: { label: string; run: () => void; leads?: string } | null;
}

const MOST = 3;
const PLAIN_MS = 6_000;
const LONG_MS = 15_000;
const AGAIN_MS = 2_000;
export const notices = $state<Notice[]>([]);
/** Whether the pointer or the keyboard's focus is on the messages: none goes then. */
export const attention = { here: false };
let last = 0;
let undo: Notice | null = null;

export function say(text: string, action: Notice["action"] = null): void {
  show({ id: ++last, text, bad: false, times: 1, place: route.place, action });
}

export function complain(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  complainOf(explain(error));
}

/** What went wrong, in words that are shown as they are. */
export function complainOf(text: string): void {
  show({ id: ++last, text, bad: true, times: 1, place: route.place, action: null });
}

export function dismiss(id: number): void {
  const index = notices.findIndex((notice) => notice.id === id);
  if (index >= 0) notices.splice(index, 1);
  if (notices.length === 0) attention.here = false;
}

/** What they lead to is there, or is over. */
export function dismissLeadingTo(address: string): void {
  for (const one of notices.filter((notice) => notice.action?.leads === address)) dismiss(one.id);
}

/** What was said in another part of the page is over; an error stays to be read. */
export function dismissFromElsewhere(): void {
  for (const one of notices.filter((notice) => !notice.bad && notice.place !== route.place)) dismiss(one.id);
}

/** Takes back what was done last, also when its message is gone; whether there was anything. */
export function undoLast(): boolean {
  const taken = undo;
  if (taken === null) return false;
  act(taken);
  return true;
}

/** Does what a message's button says. */
export function act(notice: Notice): void {
  if (notice.id === undo?.id) undo = null;
  notice.action?.run();
  dismiss(notice.id);
}

/** Runs it; what goes wrong is said. */
export async function attempt(work: () => Promise<unknown>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

function show(notice: Notice): void {
  const equal = notices.find((one) => one.text === notice.text && one.bad === notice.bad);
  if (equal !== undefined) {
    notice.times += equal.times;
    if (notice.action?.label === "Undo") notice.action = both(notice.action, equal.action);
    dismiss(equal.id);
  }
  if (notice.action?.label === "Undo") undo = notice;
  // What was said before is over: a message that only says that something was done gives way to any other.
  const isPlain = (one: Notice) => one.action === null && !one.bad;
  for (const old of notices.filter(isPlain)) dismiss(old.id);
  notices.push(notice);
  if (notices.length > MOST) notices.shift();
  setTimeout(() => expire(notice.id), isPlain(notice) ? PLAIN_MS : LONG_MS);
}

/** What was done last is taken back first. */
function both(newer: NonNullable<Notice["action"]>, older: Notice["action"]): NonNullable<Notice["action"]> {
  return { ...newer, run: () => (newer.run(), older?.run()) };
}

function expire(id: number): void {
  if (attention.here) setTimeout(() => expire(id), AGAIN_MS);
  else dismiss(id);
}
