// What the figures of a training are called.

const NAMES: Record<string, string> = {
  "loss/video": "Loss of the picture",
  "loss/audio": "Loss of the sound",
  "loss/total": "Loss in all",
  loss: "Loss in all",
  "time/ms_per_update": "Milliseconds for an update",
  "update/rate": "Learning rate, as a share of the full one",
  "update/gradient_norm": "Size of the gradients",
};
const WORDS: Record<string, string> = { video: "picture", audio: "sound", loss: "loss", validation: "validation" };

/** In words; one that is not known by its parts. */
export function curveName(name: string): string {
  const known = NAMES[name];
  if (known !== undefined) return known;
  const text = name
    .split("/")
    .map((part) => WORDS[part] ?? part.replaceAll("_", " "))
    .join(", ");
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
