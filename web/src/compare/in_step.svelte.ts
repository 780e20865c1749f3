// Several films on one clock: the longest one leads; the others run a little faster or slower until they are with it again.
import { untrack } from "svelte";

// Seconds. A seek takes time itself, in which the leader runs on: it is for what playing cannot make good soon.
const DRIFT = 0.02;
const JUMP = 0.4;
const MOST_FASTER = 0.25;

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
      for (const film of this.films.values()) if (film !== lead) keepUp(film, lead);
    }
    requestAnimationFrame(this.tick);
  };
}

function keepUp(film: HTMLVideoElement, lead: HTMLVideoElement): void {
  if (film.seeking || film.ended || film.currentTime >= film.duration - DRIFT) return;
  const behind = lead.currentTime - film.currentTime;
  if (Math.abs(behind) > JUMP) film.currentTime = lead.currentTime;
  const more = Math.min(MOST_FASTER, Math.max(-MOST_FASTER, 2 * behind));
  film.playbackRate = Math.abs(behind) > DRIFT ? 1 + more : 1;
}
