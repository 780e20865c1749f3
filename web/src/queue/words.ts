// What a job is called and what it is doing, in words.
import type { StudioJob } from "../api/types";
import { seconds } from "../lib/format";
import { modelName } from "../lib/names";

const KINDS = { create: "New clip", edit: "Retake", extension: "Continuation" };

export function kindOf(job: StudioJob): string {
  if (job.imported) return "Imported";
  if (job.origin?.way === "new_sound") return "Sound for a picture";
  if (job.origin?.way === "new_picture") return "Picture for a sound";
  if (job.origin?.way === "variation") return "Variation";
  return KINDS[job.task];
}

/** What a row of the queue is called: an imported film may come without words. */
export function nameOf(job: StudioJob): string {
  return job.prompt || (job.imported ? "A film that was imported" : "A clip without words");
}

/** "number 2 of 5", for a job at `place` among `count` that wait. */
export function placeOf(place: number, count: number): string {
  if (place === 0) return "the next one";
  return place === count - 1 ? "the last one" : `number ${place + 1} of ${count}`;
}

// Of a set, the stage says which clip is being made.
const CLIP_OF_SET = /^clip (\d+) of (\d+): /;

export function stageOf(job: StudioJob): string {
  const stage = job.stage ?? "starting";
  const clip = CLIP_OF_SET.exec(stage);
  const which = clip === null ? "" : `Clip ${clip[1]} of ${clip[2]} · `;
  if (job.step > 0 && job.step < job.steps) return `${which}Step ${job.step} of ${job.steps}`;
  const now = stage.replace(CLIP_OF_SET, "");
  return `${which}${now.slice(0, 1).toUpperCase()}${now.slice(1)}…`;
}

export function factsOf(job: StudioJob): string {
  const facts = [modelName(job.model), job.seconds === null ? "" : seconds(Number(job.seconds)), job.size?.replace("x", " × ") ?? ""];
  if (job.num_outputs > 1) facts.push(`${job.num_outputs} clips`);
  return facts.filter((fact) => fact !== "").join(" · ");
}
