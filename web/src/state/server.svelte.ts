// Who may do what here, and what this server has: models, LoRAs, limits, workers.
import { getInfo, getSession } from "../api/calls";
import { Fault } from "../api/faults";
import { onSignedOut } from "../api/http";
import { plural } from "../lib/format";
import type { Session, StudioInfo, StudioModel } from "../api/types";

// Loading a model takes a minute or two; what lasts longer than this is something else.
const LOADING_MS = 300_000;

interface Server {
  session: Session | null;
  info: StudioInfo | null;
  reachable: boolean;
  /** Whether the key that was signed in with is not taken any more. */
  keyIsGone: boolean;
  /** Whether the server has another page now than the one that is open. */
  outdated: boolean;
  /** Whether the server has been there for so long, as this page saw it, that a model would be loaded by now. */
  startedLongAgo: boolean;
}

export const server = $state<Server>({ session: null, info: null, reachable: true, keyIsGone: false, outdated: false, startedLongAgo: false });
let starting = setTimeout(() => (server.startedLongAgo = true), LOADING_MS);

/** To be called when the server is back: its workers begin anew. */
export function startsAgain(): void {
  server.startedLongAgo = false;
  clearTimeout(starting);
  starting = setTimeout(() => (server.startedLongAgo = true), LOADING_MS);
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
}

/** Asks again what the server has; after a restart it may be another one. */
export async function refreshInfo(): Promise<void> {
  try {
    const found = await getInfo();
    if (server.info !== null && server.info.page !== found.page) server.outdated = true;
    server.info = found;
    if (!server.reachable) startsAgain();
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

/** What the workers are doing, as a sentence. `making`: clips of the jobs that are running. */
export function workersSay(making: number): { text: string; good: boolean } {
  const workers = server.info?.workers ?? [];
  if (!server.reachable) return { text: "The server does not answer. Trying again…", good: false };
  if (making > 0) return { text: `Making ${plural(making, "clip")}`, good: true };
  if (workers.length === 0) return { text: server.startedLongAgo ? "No worker runs: clips wait" : "Starting…", good: false };
  if (workers.every((worker) => worker.state === "starting")) return { text: "The model is loading…", good: false };
  return { text: "Ready", good: true };
}
