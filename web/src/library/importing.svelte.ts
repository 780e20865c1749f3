// Films on their way into the library, one after the other: they go on while other parts of the page are shown.
import { importFiles, importFromFolder } from "../api/calls";
import { asSentence, explain, Fault } from "../api/faults";
import type { ImportReport } from "../api/types";
import { bytes, plural } from "../lib/format";
import { refusalOf } from "../lib/kinds";
import { complainOf, say } from "../state/notices.svelte";
import { library } from "../state/queue.svelte";
import { server } from "../state/server.svelte";
import { filters, hasFilters } from "./state.svelte";

// Few, so that the count is seen to grow and a cancel does not wait for long: the server takes up to fifty.
const LISTED_AT_ONCE = 4;
// Answers of a server that is there again soon, and of what stands before it.
const AWAY = [0, 429, 502, 503, 504];
const AGAIN_SECONDS = 3;

interface Importing {
  /** Whether anything is on its way. */
  busy: boolean;
  done: number;
  count: number;
  /** Whether the server is waited for. */
  held: boolean;
  /** Files that were not taken; until somebody has read of them. */
  refused: { files: NotTaken[]; count: number; again: () => void } | null;
}
export interface NotTaken {
  /** What it is called; null where the server was asked for several at once. */
  name: string | null;
  why: string;
}
interface Outcome {
  report: ImportReport | null;
  why: NotTaken[];
}
interface Piece {
  count: number;
  run: (signal: AbortSignal) => Promise<Outcome>;
}

export const importing = $state<Importing>({ busy: false, done: 0, count: 0, held: false, refused: null });
const waiting: Piece[] = [];
let flight = new AbortController();

export function importFilms(files: File[]): void {
  add(files.map((file) => ({ count: 1, run: (signal) => importOne(file, signal) })));
}

/** Files of the folders that the server offers, by their ids. */
export function importListed(ids: string[]): void {
  const starts = Array.from({ length: Math.ceil(ids.length / LISTED_AT_ONCE) }, (_, index) => index * LISTED_AT_ONCE);
  const some = starts.map((start) => ids.slice(start, start + LISTED_AT_ONCE));
  add(some.map((these) => ({ count: these.length, run: (signal) => importThese(these, signal) })));
}

/** What has arrived stays; the rest is not sent. */
export function cancelImport(): void {
  waiting.length = 0;
  flight.abort();
}

function add(pieces: Piece[]): void {
  waiting.push(...pieces);
  importing.count += pieces.reduce((sum, piece) => sum + piece.count, 0);
  if (!importing.busy && waiting.length > 0) void work();
}

async function work(): Promise<void> {
  importing.busy = true;
  flight = new AbortController();
  let [taken, known] = [0, 0];
  const why: NotTaken[] = [];
  const failed: Piece[] = [];
  for (let piece = waiting.shift(); piece !== undefined; piece = waiting.shift()) {
    const { report, why: reasons } = await piece.run(flight.signal);
    if (flight.signal.aborted && report === null) break;
    importing.done += piece.count;
    why.push(...reasons);
    if (reasons.length > 0) failed.push(piece);
    if (report === null) continue;
    taken += report.data.length - report.known.length;
    known += report.known.length;
    library.revision += 1;
  }
  const { count } = importing;
  Object.assign(importing, { busy: false, done: 0, count: 0 });
  sayWhatCame(taken, known, flight.signal.aborted ? count : null);
  const [first] = why;
  if (first === undefined) return;
  importing.refused = { files: why, count, again: () => add(failed) };
  if (why.length === 1) complainOf(sentenceOf(first));
}

export const sentenceOf = ({ name, why }: NotTaken): string => (name === null ? why : `${name}: ${why}`);

/** Runs it again for as long as the server is away or has too much to do: an import of many films outlives a restart. */
async function patiently<T>(work: () => Promise<T>, signal: AbortSignal, stillThere = () => Promise.resolve(true)): Promise<T> {
  try {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof Fault) || signal.aborted || !AWAY.includes(error.status) || error.code.endsWith("_exceeded")) throw error;
        if (!(await stillThere())) throw new Error(GONE);
        importing.held = true;
        await pause((error.retryAfter ?? AGAIN_SECONDS) * 1000, signal);
        if (signal.aborted) throw error;
      }
    }
  } finally {
    importing.held = false;
  }
}

/** Until then, or until the import is stopped. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}

/** `stoppedOf`: how many were asked for, where it was cancelled. */
function sayWhatCame(taken: number, known: number, stoppedOf: number | null): void {
  const words = [];
  if (stoppedOf !== null) words.push(`Stopped: ${taken} of ${plural(stoppedOf, "film")} imported.`);
  else if (taken > 0) words.push(`${plural(taken, "clip")} imported.`);
  if (known > 0) words.push(`${plural(known, "clip")} ${known === 1 ? "was" : "were"} in the library already.`);
  if (taken + known > 0 && (hasFilters() || filters.trashed)) words.push("Clear the search and press “All clips” to see all.");
  if (words.length > 0) say(words.join(" "));
}

// Where the server itself says what can be done.
const HAS_A_WAY = /; (?:delete|give|list|send|use) /;

/** A file that arrived and was not taken. */
const refusedFor = (name: string, message: string): NotTaken => ({
  name,
  why: `${asSentence(message)}${HAS_A_WAY.test(message) ? "" : " Use another file."}`,
});

const GONE = "It cannot be read any more: it was changed or moved. Choose it again.";

/** Each file is a request of its own: one that is too large or broken takes no other with it. */
async function importOne(file: File, signal: AbortSignal): Promise<Outcome> {
  const most = server.info?.limits.max_upload_bytes ?? Infinity;
  const tooLarge = `${file.name} has ${bytes(file.size)}; at most ${bytes(most)} can be sent. Use a smaller or shorter film.`;
  const refusal = file.size > most ? tooLarge : await refusalOf(file, file.name, "video").catch(() => GONE);
  if (refusal === GONE) return { report: null, why: [{ name: file.name, why: GONE }] };
  if (refusal !== null) return { report: null, why: [{ name: null, why: refusal }] };
  try {
    const report = await patiently(() => importFiles([file], signal), signal, () => canBeRead(file));
    return { report, why: report.refused.map((one) => refusedFor(file.name, one.message)) };
  } catch (error) {
    return { report: null, why: [{ name: file.name, why: explain(error) }] };
  }
}

/** To a browser, a file that is gone is a server that does not answer. */
const canBeRead = (file: File): Promise<boolean> => file.slice(0, 1).arrayBuffer().then(() => true, () => false);

async function importThese(ids: string[], signal: AbortSignal): Promise<Outcome> {
  try {
    const report = await patiently(() => importFromFolder(ids, signal), signal);
    return { report, why: report.refused.map((one) => refusedFor(one.name, one.message)) };
  } catch (error) {
    return { report: null, why: [{ name: null, why: explain(error) }] };
  }
}

// Films that were chosen here are read from this page: without it the rest cannot be sent.
addEventListener("beforeunload", (event) => {
  if (importing.busy) event.preventDefault();
});
