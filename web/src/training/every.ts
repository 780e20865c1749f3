// Work that is done again and again while a part of the page is shown, one at a time.

export function every(milliseconds: number, work: () => Promise<unknown>, trouble: (error: unknown) => void): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  const once = async () => {
    try {
      await work();
    } catch (error) {
      if (!ended) trouble(error);
    }
    if (!ended) timer = setTimeout(() => void once(), milliseconds);
  };
  void once();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
