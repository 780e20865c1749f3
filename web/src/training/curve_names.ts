// What the figures of a training are called.
import type { Run } from "../api/types";

/** Which clips the validation's figures are of: others than it learns from, those that it learns from, or nobody knows. */
export type ValidatedOn = Run["validated_on"];

const VALIDATED: Record<NonNullable<ValidatedOn> | "unknown", string> = {
  other: "on clips it does not learn from",
  training: "on clips it learns from",
  unknown: "in validation",
};
const NAMES: Record<string, string> = {
  "loss/video": "Error in the picture (loss)",
  "loss/audio": "Error in the sound (loss)",
  "loss/total": "Error in all (loss)",
  loss: "Error in all (loss)",
  "time/ms_per_update": "Time for a step, in milliseconds",
  "update/rate": "Learning rate, as a share of the full one",
  "update/gradient_norm": "How strongly a step pulls at the model (gradient norm)",
};
const OF_VALIDATION: Record<string, string> = {
  "val/video": "Error in the picture",
  "val/audio": "Error in the sound",
  "val/mean": "Error in both",
};
const WORDS: Record<string, string> = {
  video: "picture",
  audio: "sound",
  loss: "error",
  no_bridge: "without what the one sees of the other",
  high: "noisy half",
  low: "clear half",
};
// "0.25-0.50" or "0.25" of "loss/low/video/0.25-0.50" and "val/low/video/0.25", the share of noise.
const NOISE = /^(\d?\.\d+)-(\d?\.\d+)$/;
const SHARE = /^[01]?\.\d+$/;
const STEP = /^step-(\d+)$/;

/** In words; one that is not known by its parts. */
export function curveName(name: string, validatedOn: ValidatedOn): string {
  const clips = VALIDATED[validatedOn ?? "unknown"];
  const validation = OF_VALIDATION[name];
  if (validation !== undefined) return `${validation}, ${clips}`;
  const known = NAMES[name];
  if (known !== undefined) return known;
  const text = name
    .split("/")
    .map((part) => (part === "val" ? `error ${clips}` : inWords(part)))
    .join(", ");
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

function inWords(part: string): string {
  const noise = NOISE.exec(part);
  if (noise !== null) return `${percent(noise[1])} to ${percent(noise[2])} % noise`;
  if (SHARE.test(part)) return `${percent(part)} % noise`;
  const step = STEP.exec(part);
  if (step !== null) return `step ${step[1]}`;
  const held = /^(\w+)-held$/.exec(part)?.[1];
  if (held !== undefined) return `${WORDS[held] ?? held} given`;
  return WORDS[part] ?? part.replaceAll("_", " ");
}

const percent = (share: string | undefined): number => Math.round(Number(share) * 100);
