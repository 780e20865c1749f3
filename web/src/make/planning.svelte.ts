// The plan of what is asked for now, asked again when that changes, when the queue does, and when the server comes back.
import type { Asked } from "../api/asking";
import { planClip } from "../api/calls";
import { explain, Fault } from "../api/faults";
import type { Plan } from "../api/types";
import { queue } from "../state/queue.svelte";
import { mayWrite, server } from "../state/server.svelte";

const WAIT_MS = 350;
// The server reads the files for every plan: with large ones it is asked when the person has stopped for longer, and never twice.
const LARGE_BYTES = 1_000_000;
const WAIT_LARGE_MS = 2_500;
const AGAIN_MS = 20_000;
const AGAIN_UNREACHED_MS = 5_000;

export class Planning {
  plan = $state.raw<Plan | null>(null);
  trouble = $state<string | null>(null);
  /** Whether what is shown is of what was asked before. */
  stale = $state(false);
  /** Whether the queue is another now than the one that the plan counted. */
  waitIsOld = $state(false);
  /** How full the queue was when the plan counted it. */
  counted = $state<string | null>(null);
  private answered: { asked: Asked; open: string } | null = null;

  /** To be called in an effect; gives what ends it. */
  follow(asked: Asked | null): (() => void) | undefined {
    if (asked === null || !mayWrite()) {
      this.plan = null;
      this.trouble = null;
      this.stale = false;
      this.waitIsOld = false;
      this.answered = null;
      return undefined;
    }
    const large = bytesOf(asked) >= LARGE_BYTES;
    // What waits before it changes how long it takes. A server that is back is asked at once.
    const open = large ? "" : queueNow();
    void server.reachable;
    if (this.answered !== null && this.answered.open === open && isSame(this.answered.asked, asked)) {
      this.stale = false;
      this.waitIsOld = false;
      return undefined;
    }
    this.waitIsOld = this.answered !== null && this.answered.open !== open;
    this.stale = this.answered === null || !isSame(this.answered.asked, asked);
    const flight = new AbortController();
    const ask = (): void => {
      planClip(asked, flight.signal)
        .then((found) => {
          this.answered = { asked, open };
          this.plan = found;
          this.counted = open;
          this.trouble = null;
          this.stale = false;
          this.waitIsOld = false;
        })
        .catch((error: unknown) => {
          if (flight.signal.aborted) return;
          this.answered = null;
          this.plan = null;
          this.stale = false;
          this.trouble = explain(error);
          // A computer with much to do may not get round to it at once, and a connection may come back.
          if (error instanceof Fault && (error.status === 0 || error.status >= 502)) {
            timer = setTimeout(ask, error.status === 503 ? AGAIN_MS : AGAIN_UNREACHED_MS);
          }
        });
    };
    let timer = setTimeout(ask, large ? WAIT_LARGE_MS : WAIT_MS);
    return () => {
      clearTimeout(timer);
      flight.abort();
    };
  }
}

/** How full the queue is: a clip that begins to be made waits no more. */
export function queueNow(): string {
  return `${queue.running.length}+${queue.waiting.length}`;
}

const bytesOf = ({ files }: Asked): number => Object.values(files).reduce((sum, file) => sum + file.size, 0);

/** Whether they ask the same: the form was touched, and put back. */
function isSame(one: Asked, other: Asked): boolean {
  const fields = (asked: Asked) => JSON.stringify([asked.task, asked.request, Object.keys(asked.files)]);
  return fields(one) === fields(other) && Object.entries(one.files).every(([name, file]) => other.files[name] === file);
}
