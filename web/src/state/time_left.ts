// How long jobs still take, without the small ups and downs of the estimate.
import type { StudioJob } from "../api/types";

const GROWS_BY = 1.2;
const LEAST_GROWTH_S = 2;
const ends = new Map<string, number>();

/** The job with a time left that falls from answer to answer, unless the work really takes longer than was thought. */
export function steady(job: StudioJob, now: number = Date.now() / 1000): StudioJob {
  if (job.status !== "in_progress" || job.eta_seconds === null) {
    ends.delete(job.id);
    return job;
  }
  const before = Math.max(0, (ends.get(job.id) ?? Infinity) - now);
  const grows = job.eta_seconds > Math.max(before * GROWS_BY, before + LEAST_GROWTH_S);
  const left = before === Infinity || grows ? job.eta_seconds : Math.min(before, job.eta_seconds);
  ends.set(job.id, now + left);
  return { ...job, eta_seconds: left };
}
