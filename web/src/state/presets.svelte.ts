// Sets of numbers by name: three that come with the page, and a person's own, kept in this browser.
import type { ModelSizes } from "../api/types";
import { plural, seconds } from "../lib/format";
import { keep, keptJson } from "../lib/storage";
import type { Numbers } from "./draft.svelte";

export interface Preset {
  name: string;
  numbers: Partial<Numbers>;
  own: boolean;
}

const FEW_STEPS = 8;
const KEY = "phonofilm-presets";
export const presets = $state<{ own: Preset[] }>({ own: stored() });

export function readyPresets(sizes: ModelSizes | null): Preset[] {
  const steps = sizes?.steps ?? 50;
  // A model that was taught to do with few steps is quick already, and gets worse with fewer.
  const quick: Preset = { name: "Quick look", numbers: { steps: Math.round(steps / 3), count: 1 }, own: false };
  return [
    ...(steps > FEW_STEPS ? [quick] : []),
    { name: "Normal", numbers: { steps: null, together: null, count: 1 }, own: false },
    { name: "Lips and hits closer", numbers: { steps: null, together: 3, count: 1 }, own: false },
    { name: "Four to choose from", numbers: { count: 4, seed: null }, own: false },
  ];
}

const SAID: { [Name in keyof Numbers]: (value: NonNullable<Numbers[Name]>) => string } = {
  size: (size) => size.replace("x", " × "),
  seconds: (length) => seconds(length),
  steps: (steps) => plural(steps, "step"),
  guidance: (scale) => `keep to the words ${scale}`,
  together: (scale) => `picture and sound together ${scale}`,
  seed: (seed) => `seed ${seed}`,
  count: (count) => plural(count, "clip"),
  negative: (text) => (text === "" ? "" : `not: ${text}`),
};
const UNSET: Partial<Record<keyof Numbers, string>> = { steps: "the model's own steps", seed: "a new seed each time" };

/** What a preset sets, as a line. */
export function describePreset({ numbers }: Preset): string {
  return describeNumbers(numbers);
}

/** Of a form's numbers, those of the folded part that are not as the model has them. */
export function unusual(
  { steps, guidance, together, seed, negative }: Numbers,
  usualSteps: number | null,
): Partial<Numbers> {
  const given = Object.entries({ steps: steps === usualSteps ? null : steps, guidance, together, seed }).filter(([, value]) => value !== null);
  return { ...Object.fromEntries(given), ...(negative.trim() === "" ? {} : { negative: negative.trim() }) };
}

export function describeNumbers(numbers: Partial<Numbers>): string {
  const names = (Object.keys(SAID) as (keyof Numbers)[]).filter((name) => name in numbers);
  const said = names.map((name) => {
    const value = numbers[name];
    return value === null || value === undefined ? (UNSET[name] ?? "") : (SAID[name] as (value: unknown) => string)(value);
  });
  return said.filter((one) => one !== "").join(", ");
}

/** Whether the form has every number of the preset. */
export function isOn({ numbers }: Preset, now: Numbers): boolean {
  return (Object.keys(numbers) as (keyof Numbers)[]).every((name) => numbers[name] === now[name]);
}

export function keepPreset(name: string, numbers: Numbers): void {
  presets.own = [...presets.own.filter((one) => one.name !== name), { name, numbers: { ...numbers }, own: true }];
  keep(KEY, JSON.stringify(presets.own));
}

export function forgetPreset(name: string): void {
  presets.own = presets.own.filter((one) => one.name !== name);
  keep(KEY, JSON.stringify(presets.own));
}

function stored(): Preset[] {
  const found = keptJson(KEY);
  return Array.isArray(found) ? found.filter(isPreset) : [];
}

function isPreset(one: unknown): one is Preset {
  if (typeof one !== "object" || one === null) return false;
  const { name, numbers } = one as Partial<Preset>;
  return typeof name === "string" && typeof numbers === "object" && numbers !== null;
}
