// A clip that waits and whose settings are in the form: what the form asks for then takes its place in the queue.
import type { Asked } from "../api/asking";
import { cancelJob, dismissJob, makeClip, moveJob } from "../api/calls";
import type { StudioJob } from "../api/types";
import { copyOfDraft, draft, type Draft } from "./draft.svelte";
import { queue } from "./queue.svelte";

// The fields of a request that the form shows. One with others is changed field by field, so that none is lost.
const IN_FORM = new Set([
  ...["prompt", "model", "seconds", "size", "num_inference_steps", "guidance_scale", "modality_scale", "seed", "n"],
  ...["negative_prompt", "loras", "draw_first_frame"],
]);

export const changing = $state<{ job: StudioJob | null }>({ job: null });
let before: Draft | null = null;

export function fitsForm(job: StudioJob): boolean {
  return job.task === "create" && Object.keys(job.request).every((name) => IN_FORM.has(name));
}

/** To be called before the job's settings go into the form. */
export function startChanging(job: StudioJob): void {
  before ??= copyOfDraft();
  changing.job = job;
}

/** The form is again what it was before. */
export function stopChanging(): void {
  if (before !== null) Object.assign(draft, before);
  before = null;
  changing.job = null;
}

export function isWaiting(job: StudioJob | null): boolean {
  return job !== null && queue.waiting.some((one) => one.id === job.id);
}

export async function keepChanges(asked: Asked): Promise<void> {
  const { job } = changing;
  if (job === null) return;
  const place = queue.waiting.findIndex((one) => one.id === job.id);
  const made = await makeClip(asked);
  if (place >= 0) await moveJob(made.id, place);
  // One that has begun meanwhile stops soon; it is listed as cancelled, with the clips that it has finished.
  if ((await cancelJob(job.id)).status === "cancelled") await dismissJob(job.id);
  stopChanging();
}
