// What the Make form holds: kept for this tab, and the last one of any tab for the next new one.
import type { Asked } from "../api/asking";
import { NO_LORA, type ClipRequest } from "../api/types";
import { joinPrompt } from "../lib/prompt";
import { keepFiles, keptFiles } from "../lib/kept_files";
import { keep, keptJson } from "../lib/storage";
import { holds, newName } from "../lib/tab";
import { say } from "./notices.svelte";
import { modelNamed, server } from "./server.svelte";

/** A picture, film or sound that was given: a file, with where it came from; or a clip of the library. */
export interface Given {
  label: string;
  blob: Blob | null;
  url: string;
  clip: string | null;
}
export interface ChosenLora {
  name: string;
  picture: number;
  sound: number;
}
/** A picture that is shown at a moment of the clip. */
export interface KeyFrame {
  at: number | null;
  picture: Given | null;
}
export interface Numbers {
  size: string | null;
  seconds: number | null;
  steps: number | null;
  guidance: number | null;
  together: number | null;
  seed: number | null;
  count: number;
  negative: string;
}
/** What is seen and heard: one text, or three that are joined. */
export interface Words {
  separate: boolean;
  text: string;
  picture: string;
  speech: string;
  sound: string;
}
export interface Draft extends Numbers, Words {
  model: string | null;
  /** Words that a writing model's took the place of, the last ones last. */
  earlier: Words[];
  /** Whether the first frame is drawn from the words, where nothing is given to begin with. */
  draw: boolean;
  loras: ChosenLora[];
  first: Given | null;
  last: Given | null;
  film: Given | null;
  music: Given | null;
  voice: Given | null;
  keyFrames: KeyFrame[];
}

const KEY = "phonofilm-draft";
const EMPTY: Draft = {
  model: null,
  separate: false,
  text: "",
  picture: "",
  speech: "",
  sound: "",
  earlier: [],
  draw: false,
  size: null,
  seconds: null,
  steps: null,
  guidance: null,
  together: null,
  seed: null,
  count: 1,
  negative: "",
  loras: [],
  first: null,
  last: null,
  film: null,
  music: null,
  voice: null,
  keyFrames: [],
};
const FILES = { first: null, last: null, film: null, music: null, voice: null, keyFrames: [] };

const MOST_EARLIER = 10;

const { words, filesOf } = stored();
export const draft = $state<Draft>(words);
/** Under which name this tab's files are kept; and whether those of before are back, ahead of which nothing is kept. */
const files = $state({ of: filesOf.mine, back: false });
void takeFilesBack();

export function clearDraft(): void {
  Object.assign(draft, { ...EMPTY, model: draft.model, separate: draft.separate, earlier: [], loras: [], keyFrames: [] });
}

/** Nothing of the form stays in this browser for whoever signs in next. */
export function forgetDraft(): void {
  clearDraft();
  keepDraft();
}

/** The form as it is now, to put it back with Object.assign. Its files stay where they are. */
export function copyOfDraft(): Draft {
  return $state.snapshot(draft) as Draft;
}

/** That the form was filled or emptied, with the way back to what was in it. */
export function sayChanged(what: string, before: Draft): void {
  say(what, { label: "Undo", run: () => Object.assign(draft, before) });
}

/** One text in the place of the words that are there, which `ownWordsAgain` brings back. */
export function replaceWords(text: string): void {
  const { separate, picture, speech, sound } = draft;
  draft.earlier = [...draft.earlier, { separate, text: draft.text, picture, speech, sound }].slice(-MOST_EARLIER);
  draft.separate = false;
  draft.text = text;
}

export function ownWordsAgain(): void {
  const words = draft.earlier.at(-1);
  if (words === undefined) return;
  Object.assign(draft, words, { earlier: draft.earlier.slice(0, -1) });
}

export function keepDraft(): void {
  const text = JSON.stringify({ ...draft, ...FILES, tab: files.of });
  keep(KEY, text, "sessionStorage");
  keep(KEY, text);
}

/** Follows the files alone: a film is not written anew with every letter. */
export function keepGiven(): void {
  const { first, last, film, music, voice, keyFrames } = draft;
  if (files.back) void keepFiles(files.of, $state.snapshot({ first, last, film, music, voice, keyFrames }));
}

/** The files of before the reload; what was given meanwhile stays. */
async function takeFilesBack(): Promise<void> {
  const found = (await keptFiles(filesOf.before)) as Partial<Draft> | null;
  if (found !== null) {
    for (const field of ["first", "last", "film", "music", "voice"] as const) draft[field] ??= shown(found[field] ?? null);
    const frames = found.keyFrames ?? [];
    if (draft.keyFrames.length === 0) draft.keyFrames = frames.map(({ at, picture }) => ({ at, picture: shown(picture) }));
  }
  // A duplicated tab has the form of the other, and goes its own way from there.
  if (!(await holds(files.of))) {
    files.of = newName();
    await holds(files.of);
  }
  files.back = true;
}

/** An address of a file ends with the page that made it. */
function shown(given: Given | null): Given | null {
  return given?.blob ? { ...given, url: URL.createObjectURL(given.blob) } : given;
}

export function promptOf(now: Draft): string {
  if (!now.separate) return now.text.trim();
  return joinPrompt(now, modelNamed(now.model)?.embedded ?? false);
}

/** Whether a first frame can be drawn: by this server, for a clip that does not begin with something given. */
export function mayDraw(now: Draft): boolean {
  return (server.info?.features.draw_first_frame ?? false) && [now.first, now.film, now.voice].every((one) => one === null);
}

/** The request that the form stands for. */
export function askedOf(now: Draft): Asked {
  const request: ClipRequest = { prompt: promptOf(now) };
  const files: Record<string, Blob> = {};
  const model = modelNamed(now.model);
  if (model !== null) request.model = model.id;
  if (now.seconds !== null && now.film === null) request.seconds = now.seconds;
  if (now.size !== null) request.size = now.size;
  if (now.steps !== null) request.num_inference_steps = now.steps;
  if (now.guidance !== null) request.guidance_scale = now.guidance;
  if (now.together !== null) request.modality_scale = now.together;
  if (now.seed !== null) request.seed = now.seed;
  if (Number.isInteger(now.count) && now.count > 1) request.n = now.count;
  if (now.negative.trim() !== "") request.negative_prompt = now.negative.trim();
  if (now.loras.length > 0) request.loras = now.loras.map(loraText);
  if (now.first?.blob) files["input_reference"] = now.first.blob;
  if (now.last?.blob) files["last_frame"] = now.last.blob;
  if (now.film?.clip) request.video = { id: now.film.clip };
  else if (now.film?.blob) files["video"] = now.film.blob;
  if (now.music?.clip) request.audio = { id: now.music.clip };
  else if (now.music?.blob) files["audio"] = now.music.blob;
  if (now.voice?.blob) files["voice"] = now.voice.blob;
  for (const { at, picture } of now.keyFrames) if (at !== null && picture?.blob) files[`keyframes[${at}]`] = picture.blob;
  if (now.draw && mayDraw(now)) request.draw_first_frame = true;
  return { task: "create", request, files };
}

/** Fills the form with the settings of a clip or a job; what is no field of the form stays as it is by default. */
export function fillFrom(request: ClipRequest): void {
  clearDraft();
  Object.assign(draft, {
    separate: false,
    text: request.prompt,
    model: request.model ?? draft.model,
    seconds: request.seconds ?? null,
    size: request.size ?? null,
    steps: request.num_inference_steps ?? null,
    guidance: request.guidance_scale ?? null,
    together: Number.isFinite(Number(request.modality_scale)) ? Number(request.modality_scale) : null,
    seed: typeof request.seed === "number" ? request.seed : null,
    count: request.n ?? 1,
    negative: request.negative_prompt ?? "",
    draw: request.draw_first_frame ?? false,
    loras: (request.loras ?? []).map(loraOf),
  } satisfies Partial<Draft>);
}

/** As a request names it. */
export function loraText({ name, picture, sound }: ChosenLora): string {
  if (name === NO_LORA) return name;
  return picture === sound ? `${name}:${picture}` : `${name}:video=${picture},audio=${sound}`;
}

export function loraOf(text: string): ChosenLora {
  const [name = "", strength = "1"] = text.split(/:(.*)/);
  const part = (wanted: string) => Number(new RegExp(`${wanted}=([\\d.+-]+)`).exec(strength)?.[1] ?? strength);
  const each = (value: number) => (Number.isFinite(value) ? value : 1);
  return { name, picture: each(part("video")), sound: each(part("audio")) };
}

function stored(): { words: Draft; filesOf: { mine: string; before: string } } {
  const own = keptJson(KEY, "sessionStorage");
  const found = own ?? keptJson(KEY);
  const { tab: before = "", ...words } = (typeof found === "object" ? found : null) as Partial<Draft> & { tab?: string } ?? {};
  const mine = own !== null && before !== "" ? before : newName();
  return { words: { ...EMPTY, ...words, ...FILES, keyFrames: [] }, filesOf: { mine, before } };
}
