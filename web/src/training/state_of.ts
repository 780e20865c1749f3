// What a training is doing, in a word. One that made all its steps has finished; the server says of both that they stopped.
import type { Run } from "../api/types";

export function stateOf(run: Run): string {
  const done = run.steps !== null && Math.max(run.step ?? 0, run.checkpoints.at(-1) ?? 0) >= run.steps;
  if (run.state === "running" && run.step === null) return "preparing";
  return run.state === "stopped" && done ? "finished" : run.state;
}
