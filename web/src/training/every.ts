// Work that is done again and again while a part of the page is shown, one at a time; what keeps failing is said once.

export function every(milliseconds: number, work: () => Promise<unknown>, trouble: (error: unknown) => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  let failed = false;
  const once = async () => {
    try {
      if (!document.hidden) await work();
      failed = false;
    } catch (error) {
      if (!ended && !failed) trouble(error);
      failed = true;
    }
    if (!ended) timer = setTimeout(() => void once(), milliseconds);
  };
  void once();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
