// How a clip was made, read from its settings: what was asked for, and what its file says.
import { NO_LORA, type ClipSettings, type GivenInput, type StudioClip } from "../api/types";
import { seconds } from "../lib/format";

export interface UsedLora {
  name: string;
  strength: string;
}

const GIVEN: Record<string, string> = {
  input_reference: "First frame",
  last_frame: "Last frame",
  video: "Film",
  audio: "Sound",
  voice: "Voice",
};
const TRACKS: Record<string, string> = { video: ", only the picture", audio: ", only the sound" };

/** "Retake of 1 to 2.04 s of", to be followed by the clip's name. */
export function originOf(clip: StudioClip, settings: ClipSettings | null): string | null {
  const way = clip.origin?.way;
  if (way === undefined) return null;
  if (way === "retake") {
    const { retake, retake_tracks: tracks } = settings?.request ?? {};
    return `Retake${stretch(retake)}${TRACKS[tracks ?? ""] ?? ""}, of`;
  }
  return { continuation: "Goes on from", new_sound: "New sound for", new_picture: "New picture for", variation: "Variation of" }[way];
}

function stretch(retake: unknown): string {
  const [start, end] = Array.isArray(retake) ? retake : typeof retake === "string" ? retake.split(":") : [];
  return start === undefined || end === undefined ? "" : ` from ${seconds(Number(start))} to ${seconds(Number(end))}`;
}

/** What the file says was read, where the server's writing model put the request into other words. */
export function writtenPrompt(clip: StudioClip, settings: ClipSettings | null): string | null {
  const written = settings?.recorded["prompt"];
  return typeof written === "string" && written.trim() !== "" && written !== clip.prompt ? written : null;
}

/** The LoRAs by the names that requests use; of a file from elsewhere, by those that it carries. The embedded model's own is none. */
export function lorasOf(clip: StudioClip, settings: ClipSettings | null): UsedLora[] {
  const asked = settings?.request.loras;
  if (asked !== undefined && !clip.imported) return asked.filter((text) => text !== NO_LORA).map((text) => used(...split(text)));
  const recorded = settings?.recorded["loras"];
  if (!Array.isArray(recorded)) return [];
  return (recorded as { path?: unknown; strength?: unknown }[])
    .filter((one) => one.path !== "few-steps")
    .map((one) => used(String(one.path ?? "unknown"), String(one.strength ?? "1")));
}

function split(text: string): [string, string] {
  const at = text.indexOf(":");
  return at < 0 ? [text, "1"] : [text.slice(0, at), text.slice(at + 1)];
}

function used(name: string, strength: string): UsedLora {
  const parts = [...strength.matchAll(/(video|audio)=([\d.+-]+)/g)].map(
    ([, part, value]) => `${part === "video" ? "picture" : "sound"} ${Number(value)}`,
  );
  return { name: name.split(/[\\/]/).at(-1) ?? name, strength: parts.length > 0 ? parts.join(", ") : `${Number(strength)}` };
}

export interface NamedInput {
  label: string;
  input: GivenInput;
}

/** The pictures, films and sounds that it was made from. */
export function givenOf(settings: ClipSettings | null): NamedInput[] {
  return (settings?.inputs ?? []).map((input) => ({
    label: typeof input.at === "number" ? `Picture at ${seconds(input.at)}` : (GIVEN[input.field] ?? input.field),
    input,
  }));
}

/** Numbers that steer the making: "Keep to the words" and its like, by the names that they have in the form. */
export function numbersOf(settings: ClipSettings | null): [string, string][] {
  const recorded = settings?.recorded ?? {};
  const asked = settings?.request;
  const found: [string, unknown][] = [
    ["Keep to the words", recorded["guidance_scale"] ?? asked?.guidance_scale],
    ["Picture and sound together", recorded["modality_scale"] ?? asked?.modality_scale],
    ["What should not be seen or heard", recorded["negative_prompt"] ?? asked?.negative_prompt],
  ];
  return found.flatMap(([name, value]) => {
    if (value === undefined || value === null || value === "") return [];
    const number = Number(value);
    return [[name, Number.isFinite(number) ? String(number) : String(value)]];
  });
}
