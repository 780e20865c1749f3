// What went wrong, as a sentence with a way on.

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
  invalid_api_key: "Sign in again with a key that is valid.",
  insufficient_scope: "Ask whoever runs this server for a key that may do this.",
  body_too_large: "Use a smaller or shorter file.",
  unsupported_media: "Use PNG, JPEG or WebP pictures, MP4 films, and WAV, MP3 or FLAC sound.",
  video_expired: "Make it again from its settings.",
  video_not_ready: "Wait until it is finished, and try again.",
  video_not_queued: "It has started already. Cancel it, or make a new one with other settings.",
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
  bad_host: "Open the page by the address that “phonofilm studio” printed.",
};

/** What one can do about it; null where the sentence itself says it. */
export function wayOn(code: string, retryAfter: number | null = null): string | null {
  const way = WAYS_ON[code] ?? null;
  if (retryAfter === null) return way;
  return `${way ?? "Try again"} ${way === null ? "" : "Try again "}in ${Math.max(1, Math.round(retryAfter))} seconds.`.replace(/ {2}/g, " ");
}

/** Fields of a request by the names that they have on the page. */
const FIELDS: [RegExp, string][] = [
  [/\binput_reference\b/g, "the first frame"],
  [/\blast_frame\b/g, "the last frame"],
  [/\bkeyframes\[([\d.]+)\]/g, "the picture at $1 s"],
  [/\bnum_inference_steps\b/g, "“Steps”"],
  [/\bguidance_scale\b/g, "“Keep to the words”"],
  [/\bmodality_scale\b/g, "“Picture and sound together”"],
  [/\bnegative_prompt\b/g, "“What should not be seen or heard”"],
];

/** The server's sentences begin in lower case, may lack the full stop, and call fields what they are in requests. */
export function asSentence(text: string): string {
  const trimmed = FIELDS.reduce((said, [field, name]) => said.replace(field, name), text.trim());
  if (trimmed === "") return "Something went wrong.";
  const first = trimmed.slice(0, 1).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(first) ? first : `${first}.`;
}

/** Any thrown thing as the text to show. */
export function explain(error: unknown): string {
  if (!(error instanceof Fault)) return asSentence(error instanceof Error ? error.message : String(error));
  const way = wayOn(error.code, error.retryAfter);
  return way === null ? asSentence(error.message) : `${asSentence(error.message)} ${way}`;
}
