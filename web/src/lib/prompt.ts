// Three fields joined to the one text that a model reads.

export interface PromptParts {
  picture: string;
  speech: string;
  sound: string;
}

/** MOVA was trained on captions: what is seen, then words in quotation marks, then sounds. The embedded model wants one sentence. */
export function joinPrompt(parts: PromptParts, embedded: boolean): string {
  const picture = parts.picture.trim();
  const sound = parts.sound.trim();
  const spoken = saidBy(parts.speech.trim());
  if (!embedded) {
    const said = spoken.startsWith('"') || spoken.startsWith("“") ? `The voice says: ${spoken}` : spoken;
    return [picture, said, sound].filter((part) => part !== "").map(sentence).join(" ");
  }
  const quoted = /^["“]/.test(spoken);
  const seen = withoutStop(picture);
  const said = quoted && seen !== "" && !/\bsays?:?$/i.test(seen) ? `says ${spoken}` : spoken;
  // “in a low voice” goes on with the sentence, “Music plays.” is one of its own.
  const ownSentence = /^\p{Lu}/u.test(sound);
  const first = [seen, said, ownSentence ? "" : withoutStop(sound)].filter((part) => part !== "").join(" ");
  return [first, ownSentence ? sound : ""].filter((part) => part !== "").map(sentence).join(" ");
}

/** Plain words are put into quotation marks; where there are some already, the text is as it is wanted. */
function saidBy(speech: string): string {
  return speech === "" || /["“”]/.test(speech) ? speech : `"${speech}"`;
}

function withoutStop(text: string): string {
  return text.replace(/[.\s]+$/, "");
}

function sentence(text: string): string {
  if (text === "") return "";
  return /[.!?…]["”]?$/.test(text) ? text : `${text}.`;
}

/** A moment that is named in the words, such as “from second 1 on”; null where there is none. Models do not keep to such moments. */
export function momentIn(prompt: string): string | null {
  const number = String.raw`\d+(?:[.,]\d+)?`;
  const moment = String.raw`(?:second\s+${number}|${number}\s?-?(?:s|secs?|seconds?)\b|(?:the\s+)?(?:first|second|third|last|next)\s+seconds?\b)`;
  return new RegExp(String.raw`\b(?:from|at|after|until|before|by|in)\s+${moment}(?:\s+on(?:wards?)?)?`, "i").exec(prompt)?.[0] ?? null;
}
