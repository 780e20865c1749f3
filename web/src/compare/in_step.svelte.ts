// Several films on one clock. A busy computer shows each at a pace of its own: those that are ahead wait for the slowest one.
import { untrack } from "svelte";

// Seconds. What is less than DRIFT apart is together; what is more than HOLD ahead stands still until the others are there.
const DRIFT = 0.02;
const HOLD = 0.1;
const MOST_SLOWER = 0.25;
// A film that does not get ready in this time is not waited for.
const PATIENCE_MS = 4000;
const NEAR_END = 0.05;

export class InStep {
  time = $state(0);
  playing = $state(false);
  /** Seconds of the longest film, as far as they are known. */
  length = $state(0);
  /** Which one is heard. */
  solo = $state(0);
  private films = new Map<number, HTMLVideoElement>();
  private held = new Set<HTMLVideoElement>();
  private refused = new Set<HTMLVideoElement>();
  private round = 0;

  join(index: number): (film: HTMLVideoElement) => () => void {
    return (film) => {
      this.films.set(index, film);
      const measured = () => (this.length = Math.max(0, ...[...this.films.values()].map((one) => one.duration || 0)));
      film.addEventListener("loadedmetadata", measured);
      // An attachment follows what it reads: it would join anew, and seek, with every frame that plays.
      const { time, playing } = untrack(() => ({ time: this.time, playing: this.playing }));
      if (this.films.size > 1) film.currentTime = time;
      if (playing) void this.start();
      return () => {
        film.removeEventListener("loadedmetadata", measured);
        this.held.delete(film);
        if (this.films.get(index) === film) this.films.delete(index);
        if (this.films.size === 0) this.playing = false;
      };
    };
  }

  toggle(): void {
    this.playing = !this.playing;
    if (!this.playing) {
      this.round += 1;
      for (const film of this.films.values()) film.pause();
    } else if (this.going().length === 0) this.seek(0);
    else void this.start();
  }

  seek(seconds: number): void {
    this.time = seconds;
    for (const film of this.films.values()) film.currentTime = Math.min(seconds, film.duration || seconds);
    if (this.playing) void this.start();
  }

  /** So many frames on or back, and still there: to the middle of a frame, where no rounding can show its neighbour. */
  byFrames(frames: number, fps: number, length: number): void {
    if (this.playing) this.toggle();
    const last = Math.max(0, Math.round(length * fps) - 1);
    const frame = Math.min(last, Math.max(0, Math.floor(this.time * fps + 1e-3) + frames));
    this.seek((frame + 0.5) / fps);
  }

  /** None begins before all can. */
  private async start(): Promise<void> {
    this.round += 1;
    const round = this.round;
    this.held.clear();
    this.refused.clear();
    for (const film of this.films.values()) film.pause();
    await Promise.all([...this.films.values()].map(ready));
    if (round !== this.round || !this.playing) return;
    for (const film of this.going()) this.play(film);
    this.tick(round);
  }

  private play(film: HTMLVideoElement): void {
    film.playbackRate = 1;
    film.play().catch((error: unknown) => {
      // A pause that comes before the beginning is no refusal.
      if (!(error instanceof DOMException && error.name === "AbortError")) this.refused.add(film);
    });
  }

  /** The films that have not ended, and can be played. They are of different lengths: all begin again when the longest has ended. */
  private going(): HTMLVideoElement[] {
    return [...this.films.values()].filter((film) => !film.ended && film.error === null && !this.refused.has(film));
  }

  private tick(round: number): void {
    if (round !== this.round || !this.playing) return;
    const going = this.going();
    if (going.length === 0) {
      if ([...this.films.values()].some((film) => film.ended)) this.seek(0);
      else this.playing = false;
      return;
    }
    const slowest = Math.min(...going.map((film) => film.currentTime));
    this.time = slowest;
    for (const film of going) this.keepUp(film, film.currentTime - slowest);
    requestAnimationFrame(() => this.tick(round));
  }

  private keepUp(film: HTMLVideoElement, ahead: number): void {
    if (this.held.has(film)) {
      if (ahead > DRIFT) return;
      this.held.delete(film);
      this.play(film);
    } else if (ahead > HOLD) {
      this.held.add(film);
      film.pause();
    } else film.playbackRate = ahead > DRIFT ? 1 - Math.min(MOST_SLOWER, 2 * ahead) : 1;
  }
}

/** When the film stands where it was sent, and can go on from there; or cannot at all. */
function ready(film: HTMLVideoElement): Promise<void> {
  const is = () =>
    film.error !== null ||
    (!film.seeking &&
      (film.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA ||
        (film.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && film.currentTime >= film.duration - NEAR_END)));
  if (is()) return Promise.resolve();
  return new Promise((resolve) => {
    const kinds = ["canplay", "seeked", "error"] as const;
    const end = () => {
      for (const kind of kinds) film.removeEventListener(kind, look);
      clearTimeout(timer);
      resolve();
    };
    const look = () => {
      if (is()) end();
    };
    const timer = setTimeout(end, PATIENCE_MS);
    for (const kind of kinds) film.addEventListener(kind, look);
  });
}
