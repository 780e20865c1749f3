// A plan as lines to read: each fact once, the most important first.
import { asSentence, told } from "../api/faults";
import type { Plan, StudioJob } from "../api/types";
import { bytes, duration, seconds } from "../lib/format";

const BASES = { measured: "measured here", computed: "estimated", at_least: "at least" };

export interface PlanNote {
  text: string;
  kind: "bad" | "warn" | "quiet";
}

/** Seconds until it is this clip's turn. `running`: the jobs that run now; null where the queue is another than the one that was counted. */
export function waitOf(plan: Plan, running: StudioJob[] | null): number | null {
  const left = running?.map((job) => job.eta_seconds) ?? [null];
  if (plan.waiting_seconds === null || left.includes(null)) return plan.queue_seconds;
  return left.reduce<number>((sum, one) => sum + (one ?? 0), plan.waiting_seconds);
}

/**
 * What is made and how long that takes, in one line; null where the plan does not say.
 * `waitIsOld`: the queue is another since; `wait`: seconds until it is its turn.
 */
export function factsOf(plan: Plan, count: number, waitIsOld: boolean, wait: number | null): string | null {
  const facts: string[] = [];
  const { clip } = plan;
  if (clip) {
    const parts = clip.parts > 1 ? ` in ${clip.parts} parts` : "";
    facts.push(`${count > 1 ? `${count} × ` : ""}${seconds(clip.seconds)}, ${clip.width} × ${clip.height}${parts}`);
  }
  if (plan.seconds !== null) {
    const after = wait !== null && wait >= 1 ? ` after ${duration(wait)} of waiting` : "";
    facts.push(`${takes(plan.seconds * count, plan.seconds_basis)}${waitIsOld ? "" : after}`);
    if (waitIsOld) facts.push("working out how long the queue takes first…");
  }
  return facts.length === 0 ? null : facts.join(" · ");
}

function takes(time: number, basis: Plan["seconds_basis"]): string {
  if (basis === "at_least") return `at least ${duration(time)}`;
  return `${time < 1 ? "" : "about "}${duration(time)}${basis === null ? "" : ` (${BASES[basis]})`}`;
}

export function memoryOf(plan: Plan): string | null {
  const { memory } = plan;
  if (memory === null) return null;
  const [peak, weights, free] = [memory.peak_bytes, memory.weights_bytes, memory.available_bytes].map(bytes);
  if (memory.where === "host") return `Memory: peak ${peak} (weights ${weights}), ${free} free.`;
  const besides = memory.host_bytes > 0 ? `; ${bytes(memory.host_bytes)} of memory besides` : "";
  return `Graphics card: peak ${peak} (weights ${weights} in all), ${free} free${besides}.`;
}

export function notesOf(plan: Plan): PlanNote[] {
  const notes: PlanNote[] = [];
  for (const one of plan.refused) notes.push({ text: told(one.message, one.code, one.param), kind: "bad" });
  if (plan.unknown_words.length > 0) {
    const words = plan.unknown_words.map((word) => `“${word}”`).join(", ");
    // What comes of it first, and then which words: the line is cut where it is narrow.
    notes.push({ text: `May be ignored: ${words}. The model does not know ${plan.unknown_words.length === 1 ? "it" : "them"}.`, kind: "warn" });
  }
  for (const warning of plan.warnings) {
    const rest = plan.unknown_words.length > 0 ? withoutWords(warning) : warning;
    notes.push({ text: asSentence(rest), kind: "warn" });
  }
  if (plan.memory?.text) notes.push({ text: asSentence(plan.memory.text), kind: "quiet" });
  return notes;
}

/** The warning without the clause about words, which are named already. */
function withoutWords(warning: string): string {
  return warning
    .split("; ")
    .filter((clause) => !clause.startsWith("it has no word for "))
    .join("; ");
}
