// Several films on one clock: the first one leads, the others are put right when they drift.
import { untrack } from "svelte";

const DRIFT = 0.05;

export class InStep {
  time = $state(0);
  playing = $state(false);
  /** Which one is heard. */
  solo = $state(0);
  private films = new Map<number, HTMLVideoElement>();

  join(index: number): (film: HTMLVideoElement) => () => void {
    return (film) => {
      this.films.set(index, film);
      // An attachment follows what it reads: it would join anew, and seek, with every frame that plays.
      const { time, playing } = untrack(() => ({ time: this.time, playing: this.playing }));
      if (this.films.size > 1) film.currentTime = time;
      if (playing) film.play().catch(() => film.pause());
      return () => {
        if (this.films.get(index) === film) this.films.delete(index);
        if (this.films.size === 0) this.playing = false;
      };
    };
  }

  toggle(): void {
    this.playing = !this.playing;
    if (!this.playing) {
      for (const film of this.films.values()) film.pause();
      return;
    }
    if (this.longest()?.ended === true) this.seek(0);
    for (const film of this.films.values()) film.play().catch(() => film.pause());
    requestAnimationFrame(this.tick);
  }

  seek(seconds: number): void {
    this.time = seconds;
    for (const film of this.films.values()) film.currentTime = Math.min(seconds, film.duration || seconds);
  }

  /** The films are of different lengths: the longest one leads, and all begin again when it ends. */
  private longest(): HTMLVideoElement | undefined {
    return [...this.films.values()].sort((a, b) => (b.duration || 0) - (a.duration || 0))[0];
  }

  private tick = (): void => {
    const lead = this.longest();
    if (!this.playing || lead === undefined) return;
    this.time = lead.currentTime;
    if (lead.ended) {
      this.seek(0);
      for (const film of this.films.values()) film.play().catch(() => film.pause());
    } else {
      for (const film of this.films.values()) {
        const there = film.currentTime >= film.duration - DRIFT || film.ended;
        if (film !== lead && !there && Math.abs(film.currentTime - lead.currentTime) > DRIFT) {
          film.currentTime = lead.currentTime;
        }
      }
    }
    requestAnimationFrame(this.tick);
  };
}
