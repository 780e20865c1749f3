// Picture shapes of about the model's own number of pixels, in the steps that its latents allow.
import type { ModelSizes } from "../api/types";

export interface Shape {
  label: string;
  size: string | null;
}

const RATIOS: [string, number][] = [
  ["Wide 16:9", 16 / 9],
  ["Tall 9:16", 9 / 16],
  ["Square", 1],
];

export function shapesFor(sizes: ModelSizes | null, embedded: boolean): Shape[] {
  if (sizes === null) return [{ label: "Usual", size: null }];
  const own = { label: `Usual (${sizes.width} × ${sizes.height})`, size: null };
  if (embedded) return [own];
  const step = sizes.spatial_factor * sizes.patch;
  const area = sizes.width * sizes.height;
  const shapes = RATIOS.map(([label, ratio]) => {
    const width = Math.max(step, Math.round(Math.sqrt(area * ratio) / step) * step);
    const height = Math.max(step, Math.round(Math.sqrt(area / ratio) / step) * step);
    return { label: `${label} (${width} × ${height})`, size: `${width}x${height}` };
  });
  return [own, ...shapes];
}

/** Frames per second, which a model's numbers may give as a fraction. */
export function rateOf(rate: string | number = 24): number {
  const [top = "24", bottom = "1"] = String(rate).split("/");
  return Number(top) / Number(bottom);
}
