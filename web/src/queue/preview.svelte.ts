// The newest preview of a job. One is fetched at a time: over a slow connection some are left out, and none is broken off.
import { getFile } from "../api/calls";

export class Preview {
  /** The picture that is there, as an address within this page. */
  shown = $state<string | null>(null);
  private wanted: string | null = null;
  private fetched: string | null = null;
  private busy = false;
  private ended = false;

  show(url: string | null): void {
    this.wanted = url;
    if (!this.busy) void this.fetchOn();
  }

  end(): void {
    this.ended = true;
    if (this.shown !== null) URL.revokeObjectURL(this.shown);
  }

  private async fetchOn(): Promise<void> {
    this.busy = true;
    while (!this.ended && this.wanted !== null && this.wanted !== this.fetched) {
      this.fetched = this.wanted;
      // The next step brings another; of a clip that is finished meanwhile there is none any more.
      const picture = await getFile(this.fetched).catch(() => null);
      if (picture === null || picture.size === 0 || this.ended) continue;
      const before = this.shown;
      this.shown = URL.createObjectURL(picture);
      if (before !== null) URL.revokeObjectURL(before);
    }
    this.busy = false;
  }
}
