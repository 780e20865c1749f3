// Who may do what here, and what this server has: models, LoRAs, limits, workers.
import { getInfo, getSession } from "../api/calls";
import { Fault } from "../api/faults";
import { onSignedOut } from "../api/http";
import { plural } from "../lib/format";
import type { Session, StudioInfo, StudioModel } from "../api/types";

// Loading a model takes a minute or two; where no worker was heard of for longer than this, none runs.
const LOADING_MS = 300_000;

interface Server {
  session: Session | null;
  info: StudioInfo | null;
  reachable: boolean;
  /** Whether the key that was signed in with is not taken any more. */
  keyIsGone: boolean;
  /** Whether the server has another page now than the one that is open. */
  outdated: boolean;
  /** Since when no worker could make anything, in milliseconds since 1970; null while one can. */
  waitsSince: number | null;
}

export const server = $state<Server>({ session: null, info: null, reachable: true, keyIsGone: false, outdated: false, waitsSince: null });
const clock = $state({ now: Date.now() });
setInterval(() => (clock.now = Date.now()), 1000);
/** When a worker was last known to be ready, and of which start of the server the waiting is counted. */
let readyAt = 0;
let countedFrom = 0;

/** To be called when the workers may be others than before. */
export function heardOfWorkers(): void {
  const { info } = server;
  if (info === null) return;
  if (info.workers.some((worker) => worker.state !== "starting")) {
    readyAt = Date.now();
    server.waitsSince = null;
    return;
  }
  const started = info.started_at * 1000;
  if (server.waitsSince !== null && countedFrom === started) return;
  countedFrom = started;
  // A worker that begins anew in the place of another has not waited since the server's start.
  const another = readyAt > started || (info.workers.length > 0 && Date.now() - started > LOADING_MS);
  server.waitsSince = another ? Date.now() : Math.min(started, Date.now());
}

onSignedOut(() => {
  if (server.session === null) return;
  if (server.session.signed_in) server.keyIsGone = true; // of several answers that say so, the first counts
  server.session.signed_in = false;
});

export async function openServer(): Promise<void> {
  server.session = await getSession();
  if (server.session.signed_in) server.keyIsGone = false;
  if (server.session.signed_in) server.info = await getInfo();
  heardOfWorkers();
}

/** Asks again what the server has; after a restart it may be another one. */
export async function refreshInfo(): Promise<void> {
  try {
    const found = await getInfo();
    if (server.info !== null && server.info.page !== found.page) server.outdated = true;
    server.info = found;
    heardOfWorkers();
    server.reachable = true;
  } catch (error) {
    if (!(error instanceof Fault) || error.status !== 401) server.reachable = false;
  }
}

export function mayWrite(): boolean {
  return server.session?.can_write ?? false;
}

export function modelNamed(name: string | null): StudioModel | null {
  const models = server.info?.models ?? [];
  return models.find((model) => model.id === name) ?? models[0] ?? null;
}

export interface Waited {
  /** "Loading nano", and "nano is being loaded". */
  short: string;
  long: string;
  /** For how long already; null where it is not known to end. */
  seconds: number | null;
}

/** What has to happen before a clip can be made; null while a worker is ready. */
export function waitedFor(): Waited | null {
  if (server.info === null || server.waitsSince === null) return null;
  const seconds = Math.max(0, (clock.now - server.waitsSince) / 1000);
  const [worker] = server.info.workers;
  if (worker !== undefined) {
    const model = worker.models[0] ?? "the model";
    return { short: `Loading ${model}`, long: `${model} is being loaded`, seconds };
  }
  if (seconds * 1000 < LOADING_MS) return { short: "Starting a worker", long: "a process that makes clips is starting", seconds };
  return { short: "No worker runs: clips wait", long: "no worker runs. The server's log says why", seconds: null };
}

/** What the workers are doing, as a sentence, and for how long where that is waited for. `making`: clips of the jobs that are running. */
export function workersSay(making: number): { text: string; good: boolean; seconds: number | null } {
  if (!server.reachable) return { text: "The server does not answer. Trying again…", good: false, seconds: null };
  const workers = server.info?.workers ?? [];
  if (workers.length > 0 && workers.every((worker) => worker.state === "engine_away"))
    return { text: "The engine that makes the clips does not answer. Clips wait for it.", good: false, seconds: null };
  const waited = waitedFor();
  // What was being made when the worker ended is still said to be in progress until another one takes it.
  if (making > 0 && waited !== null) return { text: waited.seconds === null ? waited.short : "The worker is started again", good: false, seconds: waited.seconds };
  if (making > 0) return { text: `Making ${plural(making, "clip")}`, good: true, seconds: null };
  if (waited !== null) return { text: waited.short, good: false, seconds: waited.seconds };
  return { text: "Ready", good: true, seconds: null };
}
