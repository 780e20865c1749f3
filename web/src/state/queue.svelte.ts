// The jobs of this server, live: one stream of events for the whole page.
import { listJobs } from "../api/calls";
import type { StudioJob, StudioJobs, StudioWorker } from "../api/types";
import { shortened } from "../lib/names";
import { dismissLeadingTo, say } from "./notices.svelte";
import { goTo, hrefOf, route } from "./route.svelte";
import { heardOfWorkers, refreshInfo, server } from "./server.svelte";
import { steady } from "./time_left";

export const queue = $state<StudioJobs & { loaded: boolean; previews: Record<string, string> }>({
  running: [],
  waiting: [],
  ended: [],
  loaded: false,
  previews: {},
});
/** Rises whenever the library may have changed. */
export const library = $state({ revision: 0 });

/** How many clips these jobs still make. */
export function clipsOf(jobs: StudioJob[]): number {
  return jobs.reduce((sum, job) => sum + Math.max(1, job.num_outputs - job.clip_ids.length), 0);
}

const told = new Set<string>();
let stream: EventSource | null = null;
let again: ReturnType<typeof setTimeout> | undefined;
let following = false;
let connected = false;
let failed = 0;
/** How many events about jobs have come. */
let changes = 0;
// Pixels of a card by which one sees that a clip is there.
const LEAST_SEEN = 120;
// Letters of a clip's words in a message.
const MOST_SAID = 90;
const LONGEST_WAIT_MS = 30_000;

export function follow(): void {
  unfollow();
  following = true;
  if (document.hidden) return;
  stream = new EventSource("/v1/studio/events");
  stream.onopen = () => void reconnected();
  stream.onerror = () => {
    // The server may have ended it: it is asked whether it is there, and whether this key is still good.
    if (server.reachable) void refreshInfo();
    // A browser gives up for good when the answer was an error.
    if (stream?.readyState === EventSource.CLOSED) void refused();
    else if (++failed > 1) waitLonger();
  };
  on<StudioJobs>("jobs", (jobs) => (changes++, take(jobs)));
  on<StudioJob>("job", (job) => (changes++, takeOne(job)));
  on<{ id: string }>("removed", ({ id }) => (changes++, drop(id)));
  on<{ id: string; step: number; url: string }>("preview", ({ id, step, url }) => {
    queue.previews[id] = `${url}${url.includes("?") ? "&" : "?"}step=${step}`;
  });
  on<{ revision: number }>("clips", ({ revision }) => {
    library.revision = Math.max(revision, library.revision + 1);
  });
  on<{ workers: StudioWorker[] }>("workers", ({ workers }) => {
    if (server.info !== null) server.info.workers = workers;
    heardOfWorkers();
    if (server.info?.models.some((model) => model.sizes === null)) void refreshInfo();
  });
}

export function unfollow(): void {
  following = false;
  hangUp();
}

addEventListener("online", () => {
  if (following && !server.reachable) follow();
});

// A browser keeps six connections to a server, for all tabs together: those that nobody looks at leave theirs to the others.
document.addEventListener("visibilitychange", () => {
  if (!following) return;
  if (document.hidden) hangUp();
  else follow();
});

function hangUp(): void {
  stream?.close();
  stream = null;
  clearTimeout(again);
}

/** A key that is not valid any more leads to signing in; whatever else it was may be over in a moment. */
async function refused(): Promise<void> {
  await refreshInfo();
  if (following && server.session?.signed_in) again = setTimeout(follow, 2000);
}

/** A server that is down for longer is asked less and less often; a browser by itself would go on every three seconds. */
function waitLonger(): void {
  hangUp();
  again = setTimeout(follow, Math.min(LONGEST_WAIT_MS, 3000 * 2 ** Math.min(failed - 1, 5)));
}

/**
 * Asks for the queue now, where waiting for the next event would feel slow. An answer that events overtook may be older than
 * they are, and nothing would say again what it takes back: then it is asked once more, and at last left to the events.
 */
export async function refreshQueue(): Promise<void> {
  for (let tries = 0; tries < 2; tries++) {
    const before = changes;
    const jobs = await listJobs();
    if (before === changes) return take(jobs);
  }
}

function on<T>(kind: string, then: (data: T) => void): void {
  stream?.addEventListener(kind, (event) => then(JSON.parse((event as MessageEvent<string>).data) as T));
}

async function reconnected(): Promise<void> {
  const first = !connected;
  connected = true;
  failed = 0;
  server.reachable = true;
  if (first) return;
  await refreshInfo();
}

function take(jobs: StudioJobs): void {
  if (queue.loaded) {
    const open = new Set([...queue.running, ...queue.waiting].map((job) => job.id));
    for (const job of jobs.ended) if (job.status === "completed" && open.has(job.id)) finished(job);
  }
  queue.running = jobs.running.map((job) => steady(job));
  queue.waiting = jobs.waiting;
  queue.ended = jobs.ended;
  queue.loaded = true;
}

function takeOne(sent: StudioJob): void {
  const job = steady(sent);
  const before = [...queue.running, ...queue.waiting, ...queue.ended].find((one) => one.id === job.id);
  const wasOpen = before !== undefined && !queue.ended.includes(before);
  const known = before?.clip_ids.length ?? 0;
  const list = job.status === "in_progress" ? queue.running : job.status === "queued" ? queue.waiting : queue.ended;
  const index = list.findIndex((one) => one.id === job.id);
  if (index >= 0) list[index] = job;
  else {
    drop(job.id);
    if (list === queue.ended) list.unshift(job);
    else list.push(job);
  }
  if (job.status === "completed" && (wasOpen || !job.imported)) finished(job);
  // An import, or a clip of a set that is finished while others are made.
  else if (job.clip_ids.length > known) library.revision += 1;
}

/** Says so wherever the new clip does not appear by itself; once for each job. */
function finished(job: StudioJob): void {
  library.revision += 1;
  const [first] = job.clip_ids;
  if (told.has(job.id) || first === undefined) return;
  told.add(job.id);
  dismissLeadingTo(hrefOf("queue"));
  if (route.place === "make" && newestAreInSight()) return;
  say(`Finished: ${shortened(job.prompt ?? "", MOST_SAID)}`, { label: "Open", run: () => goTo("clip", first), leads: hrefOf("clip", first) });
}

/** Beside the form, or below it on a narrow screen. */
function newestAreInSight(): boolean {
  const place = document.getElementById("newest")?.getBoundingClientRect();
  return place !== undefined && place.bottom > 0 && place.top > -LEAST_SEEN && place.top < innerHeight - LEAST_SEEN;
}

function drop(id: string): void {
  for (const list of [queue.running, queue.waiting, queue.ended]) {
    const index = list.findIndex((job) => job.id === id);
    if (index >= 0) list.splice(index, 1);
  }
}
