// What went wrong, as a sentence with a way on.
import { inPageWords, takenBy } from "./wording";

/** An answer that is an error, or no answer at all (status 0). */
export class Fault extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly param: string | null = null,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

const WAYS_ON: Record<string, string> = {
  unreachable: "Check that “phonofilm studio” still runs. What waits in the queue is kept.",
  insufficient_scope: "Ask whoever runs this server for a key that may do this.",
  another_server: "Sign in to the network, or open this page by the server's own address, and reload it.",
  too_much: "What stands between this page and the server takes less at once. Ask for less, or whoever runs it.",
  too_many_requests: "Wait for a moment, and try again.",
  body_too_large: "Use a smaller or shorter file.",
  unsupported_media: "Use another file.",
  gateway: "What stands between this page and the server does not reach it. Try again in a moment.",
  unexplained: "Try again. If it happens once more, the server's log says why.",
  video_expired: "Make it again from its settings.",
  video_not_ready: "Wait until it is finished, and try again.",
  video_not_queued: "Make a new one with the settings that you want.",
  video_not_found: "It may have been deleted in another tab.",
  clip_not_found: "It may have been deleted in another tab.",
  run_not_found: "Its folder may have been moved or deleted.",
  input_not_found: "It may have been deleted. Choose the file again.",
  not_running: "It may have ended by itself.",
  model_not_found: "Choose another model in the form.",
  queue_full: "Wait until a clip is finished, or cancel one that waits.",
  quota_exceeded: "Delete clips that are not needed any more, and empty the trash.",
  no_pairs: "Make the same prompt in two ways, and come back.",
  no_sound: "It has no sound. “Make sound for this picture” adds one.",
  worker_lost: "The computer may have run out of memory. Try a smaller picture or a shorter clip.",
  out_of_memory: "Try a smaller picture or a shorter clip.",
  stalled: "Try again, or try a shorter clip.",
  internal_error: "Try again. If it happens once more, the server's log says why.",
  database_unavailable: "Nothing is lost. Try again in a moment.",
  storage_unavailable: "Check that the disk is not full, and try again.",
  not_done: "This computer has much to do. Try again in a moment.",
  body_too_slow: "Check the connection, and try again.",
  origin_not_allowed: "Open the page by the address that “phonofilm studio” printed.",
  bad_host: "Open the page by the address that “phonofilm studio” printed.",
};

const NOT_THERE = ["clip_not_found", "video_not_found"];

/** What one can do about it; null where the sentence itself says it. */
export function wayOn(code: string, retryAfter: number | null = null): string | null {
  const way = WAYS_ON[code] ?? null;
  if (retryAfter === null) return way;
  const when = `in ${Math.max(1, Math.round(retryAfter))} s.`;
  if (way === null) return `Try again ${when}`;
  return /try again in a moment\.$/i.test(way) ? way.replace(/in a moment\.$/, when) : `${way} Try again ${when}`;
}

/** The server's sentences begin in lower case, may lack the full stop, and call fields what they are in requests. */
export function asSentence(text: string): string {
  const said = inPageWords(text);
  if (said === "") return "Something went wrong.";
  // A file's name stays as it is written.
  const first = /^[^\s:]+\.\w{2,5}\b/.test(said) ? said : said.slice(0, 1).toUpperCase() + said.slice(1);
  return /[.!?…]”?$/.test(first) ? first : `${first}.`;
}

/** An error of an answer or a plan as the text to show: what is wrong, and what one can do about it. */
export function told(message: string, code: string, param: string | null = null, retryAfter: number | null = null): string {
  const taken = code === "unsupported_media" ? takenBy(param) : null;
  const way = taken === null ? wayOn(code, retryAfter) : `Use ${taken}.`;
  // The id that was looked for says nothing to a person.
  const sentence = NOT_THERE.includes(code) ? "There is no such clip." : asSentence(message);
  return way === null ? sentence : `${sentence} ${way}`;
}

/** Any thrown thing as the text to show. */
export function explain(error: unknown): string {
  if (error instanceof Fault && error.code === "invalid_api_key") return "The key is not valid, or not any more. Sign in with another one.";
  if (!(error instanceof Fault)) return asSentence(error instanceof Error ? error.message : String(error));
  const said = told(error.message, error.code, error.param, error.retryAfter);
  if (wayOn(error.code, error.retryAfter) !== null) return said;
  if (error.status === 429) return `${said} ${WAYS_ON.too_many_requests}`;
  // A sentence of two halves says in the second one what can be done.
  return error.status === 400 && !/[;:]/.test(said) ? `${said} Change that, and try again.` : said;
}
