// Sets of numbers by name: three that come with the page, and a person's own, kept in this browser.
import type { ModelSizes } from "../api/types";
import type { Numbers } from "./draft.svelte";

export interface Preset {
  name: string;
  numbers: Partial<Numbers>;
  own: boolean;
}

const KEY = "phonofilm-presets";
export const presets = $state<{ own: Preset[] }>({ own: stored() });

export function readyPresets(sizes: ModelSizes | null): Preset[] {
  const steps = sizes?.steps ?? 50;
  return [
    { name: "Quick look", numbers: { steps: Math.max(2, Math.round(steps / 3)), count: 1 }, own: false },
    { name: "Normal", numbers: { steps: null, together: null, count: 1 }, own: false },
    { name: "Lips and hits closer", numbers: { steps: null, together: 3, count: 1 }, own: false },
    { name: "Four to choose from", numbers: { count: 4, seed: null }, own: false },
  ];
}

export function keepPreset(name: string, numbers: Numbers): void {
  presets.own = [...presets.own.filter((one) => one.name !== name), { name, numbers: { ...numbers }, own: true }];
  localStorage.setItem(KEY, JSON.stringify(presets.own));
}

export function forgetPreset(name: string): void {
  presets.own = presets.own.filter((one) => one.name !== name);
  localStorage.setItem(KEY, JSON.stringify(presets.own));
}

function stored(): Preset[] {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]") as Preset[];
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}
