// The server's sentences in the words of the page: its fields by the names that they have here, and no ids.
import { KINDS, type Kind } from "../lib/kinds";

/** Files that a request brings, as a sentence calls them, and what can be given. */
const FILES: Record<string, [string, Kind]> = {
  input_reference: ["the first frame", "image"],
  last_frame: ["the last frame", "image"],
  keyframes: ["a picture for a moment in between", "image"],
  video: ["the film", "video"],
  audio: ["the sound", "audio"],
  voice: ["the voice", "audio"],
};
const FIELDS: Record<string, string> = {
  prompt: "“What is seen and heard”",
  seconds: "“Seconds”",
  num_frames: "“Seconds”",
  size: "“Own picture size”",
  width: "“Own picture size”",
  height: "“Own picture size”",
  n: "“Clips”",
  num_outputs_per_prompt: "“Clips”",
  seed: "“Seed”",
  num_inference_steps: "“Steps”",
  guidance_scale: "“Keep to the words”",
  modality_scale: "“Picture and sound together”",
  negative_prompt: "“What should not be seen or heard”",
  loras: "“Style or voice (LoRA)”",
  lora: "“Style or voice (LoRA)”",
  model: "the model",
  enhance_prompt: "“Write it out”",
  draw_first_frame: "“Draw a first frame from the words”",
  start: "“From second”",
  end: "“To second”",
  retake_tracks: "“What is made again”",
};
const MEDIA: Record<string, string> = { image: "a picture", video: "a film", audio: "a sound" };
const REPHRASED: [RegExp, string][] = [
  [/num_frames and frame_rate follow the given video; leave them out/i, "The film says how long the clip is: leave “Seconds” open"],
  [/give this file as audio=/g, "give it as “A sound that wants a picture”"],
  [/give it as video=/g, "give it as “A film that wants sound”"],
  [/\bkeyframes\[([\d.]+)\]/g, "the picture at $1 s"],
  [/:? Input should be greater than or equal to ([\d.-]+)/, " must be at least $1"],
  [/:? Input should be greater than ([\d.-]+)/, " must be more than $1"],
  [/:? Input should be less than or equal to ([\d.-]+)/, " must be at most $1"],
  [/:? Input should be less than ([\d.-]+)/, " must be less than $1"],
  [/:? Input should be a valid integer.*$/, " must be a whole number"],
  [/:? Input should be a valid number.*$/, " must be a number"],
  [/\bin one request\b/g, "at once"],
  [/, or size=auto\b/g, ""],
  [/\bthe server's writing model gave no prompt that can be used/g, "the writing model gave no text that can be used"],
  [/\b[Nn]o (clip|video|job) video_\w+/g, "There is no such clip"],
  [/\b(?:clip |video |job )?video_[0-9a-f]\w*/gi, "this clip"],
];

/** What can be given for this field; null for fields that take no file. */
export function takenBy(param: string | null): string | null {
  const file = FILES[(param ?? "").replace(/\[.*$/, "")];
  return file === undefined ? null : KINDS[file[1]];
}

/** The sentence with fields, kinds and clips as the page calls them. */
export function inPageWords(text: string): string {
  const said = REPHRASED.reduce((now, [found, put]) => now.replace(found, put), text.trim());
  const named = said.replace(/^([a-z_]+)(?=:| (?:is|has|was|lasts|must)\b)/i, (word) => nameOf(word.toLowerCase()) ?? word);
  const known = named.replace(/\b[a-z]+_[a-z_]+\b/g, (word) => nameOf(word) ?? word);
  return known
    .replace(/ is (image|video|audio) \((\w+)\)/g, (_, kind: string, suffix: string) => ` is ${MEDIA[kind]} (${suffix})`)
    .replace(/^(.* (?:is of a kind that is not read|is an? \w+ \(\w+\))); expected .*$/, "$1");
}

function nameOf(word: string): string | null {
  return FILES[word]?.[0] ?? FIELDS[word] ?? null;
}
