// Three fields joined to the one text that a model reads.

export interface PromptParts {
  picture: string;
  speech: string;
  sound: string;
}

/** MOVA was trained on captions: what is seen, then words in quotation marks, then sounds. The embedded model wants one sentence. */
export function joinPrompt(parts: PromptParts, embedded: boolean): string {
  const picture = parts.picture.trim();
  const speech = parts.speech.trim();
  const sound = parts.sound.trim();
  const spoken = speech === "" ? "" : /["“”]/.test(speech) ? speech : `"${speech}"`;
  if (embedded) {
    const said = spoken === "" ? "" : spoken === speech ? ` ${spoken}` : ` says ${spoken}`;
    const heard = sound === "" ? "" : ` ${sound.replace(/[.\s]+$/, "")}`;
    return sentence(`${picture.replace(/[.\s]+$/, "")}${said}${heard}`.trim());
  }
  const said = spoken === "" ? "" : spoken === speech ? spoken : `The voice says: ${spoken}`;
  return [picture, said, sound].filter((part) => part !== "").map(sentence).join(" ");
}

function sentence(text: string): string {
  if (text === "") return "";
  return /[.!?…]["”]?$/.test(text) ? text : `${text}.`;
}
