// One clip's playing: position, frames, speed, and sound that can be shifted against the picture.
import { getFile } from "../api/calls";
import type { StudioClip } from "../api/types";

/** Plays the clip; `time` is the film's own clock in seconds. */
export class Playback {
  time = $state(0);
  playing = $state(false);
  loop = $state(true);
  speed = $state(1);
  muted = $state(false);
  /** Milliseconds by which the sound comes later than it was made. */
  shift = $state(0);
  private film: HTMLVideoElement | null = null;
  private context: AudioContext | null = null;
  private sound: AudioBuffer | null = null;
  private fetching: Promise<void> | null = null;
  private source: AudioBufferSourceNode | null = null;

  constructor(
    readonly clip: StudioClip,
    private trouble: (error: unknown) => void,
  ) {}

  get fps(): number {
    return this.clip.fps ?? 24;
  }

  get length(): number {
    return this.clip.seconds ?? 0;
  }

  get frames(): number {
    return this.clip.num_frames ?? Math.max(1, Math.round(this.length * this.fps));
  }

  get frame(): number {
    return Math.min(this.frames - 1, Math.max(0, Math.floor(this.time * this.fps + 1e-3)));
  }

  attach = (film: HTMLVideoElement): (() => void) => {
    this.film = film;
    let ended = false;
    const tick = () => {
      if (ended) return;
      this.time = film.currentTime;
      if (this.playing) requestAnimationFrame(tick);
    };
    const changed = () => {
      this.playing = !film.paused && !film.ended;
      this.resound();
      tick();
    };
    const kinds = ["play", "pause", "ended", "seeked", "ratechange"] as const;
    for (const kind of kinds) film.addEventListener(kind, changed);
    return () => {
      ended = true;
      for (const kind of kinds) film.removeEventListener(kind, changed);
      this.silence();
      void this.context?.close();
      this.film = null;
    };
  };

  toggle(): void {
    if (this.film === null) return;
    if (this.film.paused) this.film.play().catch(this.trouble);
    else this.film.pause();
  }

  /** Goes to the middle of a frame, where no rounding can show its neighbour. */
  seek(seconds: number): void {
    const frame = Math.min(this.frames - 1, Math.max(0, Math.floor(seconds * this.fps + 1e-6)));
    this.time = (frame + 0.5) / this.fps;
    if (this.film !== null) this.film.currentTime = this.time;
  }

  step(frames: number): void {
    this.film?.pause();
    this.seek((this.frame + frames + 0.5) / this.fps);
  }

  async setShift(milliseconds: number): Promise<void> {
    this.shift = milliseconds;
    // A slider calls this many times while the sound is on its way.
    if (milliseconds !== 0 && this.sound === null) await (this.fetching ??= this.fetchSound());
    this.resound();
  }

  private async fetchSound(): Promise<void> {
    try {
      this.context ??= new AudioContext();
      this.sound = await this.context.decodeAudioData(await (await getFile(this.clip.sound_url)).arrayBuffer());
    } catch (error) {
      this.shift = 0;
      this.trouble(error);
    } finally {
      this.fetching = null;
    }
  }

  /** With a shift the film is mute, and its sound is played beside it, anew from wherever the film is. */
  resound(): void {
    this.silence();
    const apart = this.shift !== 0 && this.sound !== null;
    if (this.film !== null) this.film.muted = this.muted || apart;
    if (!apart || this.muted || !this.playing || this.context === null || this.film === null) return;
    void this.context.resume();
    const source = new AudioBufferSourceNode(this.context, { buffer: this.sound, playbackRate: this.film.playbackRate });
    source.connect(this.context.destination);
    const at = this.film.currentTime - this.shift / 1000;
    if (at >= 0) source.start(0, at);
    else source.start(this.context.currentTime - at / this.film.playbackRate, 0);
    this.source = source;
  }

  private silence(): void {
    this.source?.stop();
    this.source?.disconnect();
    this.source = null;
  }
}
