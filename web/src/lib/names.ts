// What a clip is called, and how it came from another one, in words.
import type { StudioClip } from "../api/types";

type Way = NonNullable<StudioClip["origin"]>["way"];

const SHORT: Record<Way, string> = {
  retake: "Retake",
  continuation: "Continued",
  new_sound: "New sound",
  new_picture: "New picture",
  variation: "Variation",
};

/** The server's word for the model of a film whose file does not name one. */
const NO_MODEL = "unknown";

export function isFromElsewhere(clip: Pick<StudioClip, "model">): boolean {
  return clip.model === NO_MODEL;
}

/** A model as it is called on the page. */
export function modelName(model: string | null): string {
  return model === NO_MODEL ? "made elsewhere" : (model ?? "");
}

/** What a clip is called where nobody gave it a title. */
export function titleOf(clip: StudioClip): string {
  return clip.title || clip.prompt || "Untitled clip";
}

// What is said in a clip, where that is a word or two.
const SAID = /["“][^"“”]{1,20}["”]/;

/** Its beginning, its end and what is said, in whole words: in these, clips that were made from one another differ. */
export function shortTitleOf(clip: StudioClip): string {
  return shortened(titleOf(clip));
}

/** The same for any text, in so many letters. */
export function shortened(title: string, most = 72): string {
  if (title.length <= most) return title;
  const said = SAID.exec(title)?.[0] ?? "";
  const whole = joined(title, most, "");
  return said === "" || whole.includes(said) ? whole : joined(title, most, said);
}

function joined(title: string, most: number, between: string): string {
  const middle = between === "" ? " … " : ` … ${between} … `;
  const half = Math.floor((most - middle.length) / 2);
  const begin = title.slice(0, half + 1).replace(/\s+\S*$/, "").slice(0, half);
  const end = title.slice(-half - 1).replace(/^\S*\s+/, "").slice(-half);
  return begin + middle + end;
}

/** One or two words for how the clip was made, or null for one that was made from words alone. */
export function badgeOf(clip: Pick<StudioClip, "origin" | "imported">): string | null {
  if (clip.origin !== null) return SHORT[clip.origin.way];
  return clip.imported ? "Imported" : null;
}

/** Letters of a tag. */
const MOST_OF_TAG = 50;

/** Tags as they are written into one field: with commas between them, or each behind a #. */
export function tagsOf(text: string): string[] {
  const found = text.split(/[,;\n]|(?=#)/).map((one) => one.trim().replace(/^#+/, "").trim());
  return [...new Set(found.filter((one) => one !== ""))];
}

/** Why they cannot be tags; null where they can. */
export function tagTrouble(names: string[]): string | null {
  return names.some((name) => name.length > MOST_OF_TAG) ? `A tag has at most ${MOST_OF_TAG} letters.` : null;
}
