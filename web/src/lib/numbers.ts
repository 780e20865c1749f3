// What a number field takes, as a sentence where something else is in it.

export function wrongIn(value: number | null, min: number | undefined, max: number | undefined, whole: boolean): string | null {
  if (value === null) return null;
  const fits = value >= (min ?? -Infinity) && value <= (max ?? Infinity) && (!whole || Number.isInteger(value));
  if (fits) return null;
  const range = max === undefined ? `of at least ${min ?? 0}` : `from ${min ?? 0} to ${max.toLocaleString("en")}`;
  return `Give a ${whole ? "whole number" : "number"} ${range}.`;
}

/** Whether all numbers of a form can be taken; the first that cannot gets the keyboard's focus. */
export function numbersFit(form: HTMLElement): boolean {
  const wrong = form.querySelector<HTMLElement>("input[aria-invalid=true]");
  wrong?.closest("details")?.setAttribute("open", "");
  wrong?.focus();
  return wrong === null;
}
