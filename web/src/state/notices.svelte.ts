// Short messages at the edge of the page, some with a button such as Undo.
import { explain } from "../api/faults";

export interface Notice {
  id: number;
  text: string;
  bad: boolean;
  action: { label: string; run: () => void } | null;
}

export const notices = $state<Notice[]>([]);
let last = 0;

export function say(text: string, action: Notice["action"] = null): void {
  show({ id: ++last, text, bad: false, action });
}

export function complain(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  show({ id: ++last, text: explain(error), bad: true, action: null });
}

export function dismiss(id: number): void {
  const index = notices.findIndex((notice) => notice.id === id);
  if (index >= 0) notices.splice(index, 1);
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
  const same = notices.find((one) => one.text === notice.text && one.action === null);
  if (same !== undefined) dismiss(same.id);
  notices.push(notice);
  if (notices.length > 4) notices.shift();
  setTimeout(() => dismiss(notice.id), notice.bad ? 15_000 : 8_000);
}
