// Numbers as people read them.

export function seconds(value: number): string {
  return `${Number(value.toFixed(2))} s`;
}

/** "8 s", "3 min", "1 h 20 min". */
export function duration(value: number): string {
  if (value < 1) return "less than 1 s";
  if (value < 90) return `${Math.round(value)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 90) return `${minutes} min`;
  const rest = minutes % 60;
  return `${Math.floor(minutes / 60)} h${rest === 0 ? "" : ` ${rest} min`}`;
}

export function bytes(value: number): string {
  if (value < 1e3) return `${value} bytes`;
  if (value < 1e6) return `${Math.round(value / 1e3)} kB`;
  if (value < 1e9) return `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} MB`;
  return `${(value / 1e9).toFixed(1)} GB`;
}

/** Minutes, seconds and hundredths: "0:01.25". */
export function timecode(value: number): string {
  const hundredths = Math.max(0, Math.round(value * 100));
  const rest = ((hundredths % 6000) / 100).toFixed(2).padStart(5, "0");
  return `${Math.floor(hundredths / 6000)}:${rest}`;
}

export function ago(time: number, now: number = Date.now() / 1000): string {
  const passed = Math.max(0, now - time);
  if (passed < 60) return "just now";
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 86_400) return `${Math.floor(passed / 3600)} h ago`;
  return day(time);
}

/** The month in letters: 03/04 is two days, depending on who reads it. */
export function day(time: number): string {
  return new Date(time * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
}

export function size(text: string | null): string {
  return text === null ? "" : text.replace("x", " × ");
}

export function plural(count: number, one: string, many: string = `${one}s`): string {
  return `${count.toLocaleString()} ${count === 1 ? one : many}`;
}
