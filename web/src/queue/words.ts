// What a job is called and what it is doing, in words.
import type { StudioJob } from "../api/types";
import { seconds } from "../lib/format";

const KINDS = { create: "New clip", edit: "Retake", extension: "Continuation" };

export function kindOf(job: StudioJob): string {
  if (job.imported) return "Imported";
  if (job.origin?.way === "new_sound") return "Sound for a picture";
  if (job.origin?.way === "new_picture") return "Picture for a sound";
  if (job.origin?.way === "variation") return "Variation";
  return KINDS[job.task];
}

export function stageOf(job: StudioJob): string {
  if (job.step > 0 && job.step < job.steps) return `Step ${job.step} of ${job.steps}`;
  const stage = job.stage ?? "starting";
  return `${stage.slice(0, 1).toUpperCase()}${stage.slice(1)}…`;
}

export function factsOf(job: StudioJob): string {
  const facts = [job.model, job.seconds === null ? "" : seconds(Number(job.seconds)), job.size?.replace("x", " × ") ?? ""];
  if (job.num_outputs > 1) facts.push(`${job.num_outputs} clips`);
  return facts.filter((fact) => fact !== "").join(" · ");
}
