// Changes of one clip are sent one after the other: two at once may reach the server in either order, and each would start from
// the clip as it was before the other.

let last: Promise<unknown> = Promise.resolve();

/** Runs it once all that was given before has been answered. */
export function inOrder<T>(work: () => Promise<T>): Promise<T> {
  const mine = last.then(work);
  last = mine.catch(() => undefined);
  return mine;
}
