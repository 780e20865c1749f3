// A stretch of the clip, from the beginning of one frame to the end of another.
import type { Playback } from "./playback.svelte";

export class Selection {
  start = $state<number | null>(null);
  end = $state<number | null>(null);

  constructor(private playback: Playback) {}

  get made(): { start: number; end: number } | null {
    if (this.start === null || this.end === null || this.end <= this.start) return null;
    return { start: this.start, end: this.end };
  }

  /** Between two moments, in either order; at least one frame, the last one where both are at the clip's end. */
  between(one: number, other: number): void {
    const { fps, frames } = this.playback;
    const first = Math.max(0, Math.min(frames - 1, Math.floor(Math.min(one, other) * fps + 1e-3)));
    const last = Math.min(frames, Math.max(first + 1, Math.ceil(Math.max(one, other) * fps - 1e-3)));
    this.start = first / fps;
    this.end = last / fps;
  }

  setStart(moment: number): void {
    const end = this.end !== null && this.end > moment ? this.end : this.playback.frames / this.playback.fps;
    this.between(moment, end);
  }

  setEnd(moment: number): void {
    this.between(this.start !== null && this.start < moment ? this.start : 0, moment);
  }

  clear(): void {
    this.start = null;
    this.end = null;
  }
}
