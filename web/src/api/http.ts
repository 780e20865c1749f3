// One request and its answer. Which requests there are is in calls.ts.
import { Fault } from "./faults";

const CODES: Record<number, string> = { 429: "too_many_requests", 413: "body_too_large", 502: "gateway", 503: "gateway", 504: "gateway" };

let whenSignedOut: () => void = () => undefined;

/** What to do when the server asks for a key. */
export function onSignedOut(then: () => void): void {
  whenSignedOut = then;
}

export async function send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const init: RequestInit = { method, credentials: "same-origin" };
  if (signal !== undefined) init.signal = signal;
  if (body instanceof FormData) init.body = body;
  else if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Fault(0, "unreachable", "The server does not answer.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) whenSignedOut();
  throw await faultOf(answer, body instanceof FormData);
}

/** What Phonofilm answers is always an object: anything else comes from something in between. */
export async function json<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const answer = await send(method, path, body, signal);
  let found: unknown;
  try {
    found = await answer.json();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw another(answer.status);
  }
  if (typeof found !== "object" || found === null) throw another(answer.status);
  return found as T;
}

/** Where something else answered than Phonofilm. */
export function another(status: number): Fault {
  return new Fault(status, "another_server", "Something else than Phonofilm answered, such as the sign-in page of a network or a proxy.");
}

async function faultOf(answer: Response, withFiles: boolean): Promise<Fault> {
  const after = Number(answer.headers.get("Retry-After") ?? "");
  const retry = Number.isFinite(after) && after > 0 ? after : null;
  try {
    const { error } = (await answer.json()) as { error: { message: string; code: string | null; param: string | null } };
    if (typeof error.message === "string" && error.message !== "")
      return new Fault(answer.status, error.code ?? "error", error.message, error.param, retry);
  } catch {
    // Not the server's own answer: it always says what is wrong.
  }
  // Only a request that brings files can do with smaller ones.
  const code = answer.status === 413 && !withFiles ? "too_much" : (CODES[answer.status] ?? "unexplained");
  return new Fault(answer.status, code, `The server answered ${answer.status}.`, null, retry);
}

export function query(values: Record<string, string | number | boolean | string[] | null | undefined>): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "" || value === false) continue;
    for (const one of Array.isArray(value) ? value : [value]) found.append(name, String(one));
  }
  const text = found.toString();
  return text === "" ? "" : `?${text}`;
}
