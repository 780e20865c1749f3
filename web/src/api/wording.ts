// The server's sentences in the words of the page: its fields by the names that they have here, and no ids.
import { KINDS, type Kind } from "../lib/kinds";

/** Files that a request brings, as a sentence calls them, and what can be given. */
const FILES: Record<string, [string, Kind]> = {
  input_reference: ["the first frame", "image"],
  image: ["the first frame", "image"],
  last_frame: ["the last frame", "image"],
  last_image: ["the last frame", "image"],
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
  key: "the key",
  q: "what is searched for",
  title: "the title",
  folder: "the folder",
  tag: "a tag",
  tags: "a tag",
  add_tags: "a tag",
  remove_tags: "a tag",
};
const MEDIA: Record<string, string> = { image: "a picture", video: "a film", audio: "a sound" };
const REPHRASED: [RegExp, string][] = [
  [/^(?:audio|voice) has no sound\b.*$/, "There is no sound in the file that was given: give another one"],
  [/^(?:the )?LoRA ([^:]+): \d+ of its names (?:have another shape|are no linear layers).*$/i, "“$1” was trained for another model than this one: leave it out, or choose the model that it was trained for"],
  [/^(?:the )?LoRA (\S+) is for [^:;]+, which this model does not have.*$/i, "“$1” was trained for another model than this one: leave it out, or choose the model that it was trained for"],
  [/^\d+ adapters do not fit this model\b.*$/, "A style or voice (LoRA) was trained for another model than this one: leave it out, or choose the model that it was trained for"],
  [/num_frames and frame_rate follow the given video; leave them out/i, "The film says how long the clip is: leave “Seconds” open"],
  [/give this file as audio=/g, "give it as “A sound that wants a picture”"],
  [/give it as video=/g, "give it as “A film that wants sound”"],
  [/^(?:image|last_image) is a frame of what is made, and the given clip keeps its own; leave .*$/, "The film keeps its own frames: take the first and the last frame out"],
  [/; give (?:it one|this clip a sound) first with video=(?: alone)?/, "; give it one first, with “New sound”"],
  [/^the clip to continue has (\d+) frames, and the model goes on from the last (\d+) \(overlap_frames\); .*$/, "The model goes on from $2 frames of the clip, and up to this moment there are $1: go on from a later one"],
  [/a last frame was given for a clip of one frame; use num_frames 5 or more/, "There is a last frame, and the clip has one frame only: make it longer"],
  [/a keyframe at 0 s is the first frame; give it as image/, "A picture at 0 s is the first frame: give it there"],
  [/\btwo keyframes are closer than/, "two pictures for moments in between are closer than"],
  [/\ba keyframe and last_image are closer than/, "the last frame and the picture before it are closer than"],
  [/, for which the model has one place; leave one out/, ", too close for the model: leave one out"],
  [/\bkeyframe at ([\d.]+) s is outside/, "the picture at $1 s is outside"],
  [/a keyframe goes into a picture that is made; leave video out/, "A film keeps its own frames: take the pictures for moments in between out"],
  [/a keyframe lies in a stretch of the picture that is given; choose another time/, "A picture lies in a part that is given already: choose another moment"],
  [/\bretake ([\d.]+):([\d.]+) is not a stretch of a clip of ([\d.]+) s; .*$/, "The part from $1 to $2 s does not lie in the clip, which is $3 s long"],
  [/\bretake ([\d.]+):([\d.]+)/, "the part from $1 to $2 s"],
  [/\bretake: /, "the part "],
  [/the most that is made anew at once in a clip of this length; give it as several stretches/, "the most that is made again at once in a clip of this length; take one half after the other"],
  [/: cannot identify image file .*?(?=;|$)/, ""],
  [/ \(docs\/media\.md lists them\)/, ""],
  [/give the picture as image=/, "give the picture as “First frame”"],
  [/\bthe clip given as (?:video|audio|voice|continue_from) has no sound/, "the given clip has no sound"],
  [/read a part of it \(start, end, max_frames\) or give a smaller size/, "use a shorter or smaller one"],
  [/changes nothing without guidance: guidance_scale is 1/, "changes nothing while “Keep to the words” is 1"],
  [/ is ([\d.]+), and this model was distilled for ([\d.]+): the clip will be worse; leave \w+ out/, " is $1, and this model was trained for $2: the clip will be worse; leave the field open"],
  [/^offload layer needs/, "It needs"],
  [/\bdoes not fit: offload \w+ needs/, "The clip does not fit: it needs"],
  [/\bdevice memory\b/g, "memory on the graphics card"],
  [/\bfree host memory\b/g, "free memory of the computer"],
  [/\bhost memory\b/g, "the computer's memory"],
  [/ has (\d+) tokens and the model reads (\d+)/, " has $1 words and parts of words, and the model reads $2"],
  [/, with offload layer(?:; or offload_to_disk, with a folder on a fast disk)?/, ""],
  [/ with offload layer: a clip of at most \d+ video tokens \(this one has \d+\), so fewer frames or a smaller size/, ": a shorter clip, or a smaller picture"],
  [/; (?:dtype=bfloat16 halves them|use a machine with more memory)$/, "; use a smaller model"],
  [/^the body is larger than (\d+)(\d{6}) bytes/, "what was sent is larger than $1 MB"],
  [/^the body does not arrive/, "what was sent did not arrive"],
  [/\bvideo_\w+ has no such clip: it is/, "this clip is not there: it is"],
  [/\bin_progress\b/g, "being made"],
  [/ is queued\b/g, " is waiting"],
  [/\b(a waiting) job\b/g, "$1 clip"],
  [/\bjobs wait\b/g, "clips wait"],
  [/\bkeyframes\[([\d.]+)\]/g, "the picture at $1 s"],
  [/:? Input should be greater than or equal to ([\d.-]+)/, " must be at least $1"],
  [/:? Input should be greater than ([\d.-]+)/, " must be more than $1"],
  [/:? Input should be less than or equal to ([\d.-]+)/, " must be at most $1"],
  [/:? Input should be less than ([\d.-]+)/, " must be less than $1"],
  [/:? String should have at least 1 character.*$/, " is empty: write something there"],
  [/:? String should have at least (\d+) characters.*$/, " has fewer than $1 letters: write more"],
  [/:? String should have at most (\d+) characters?.*$/, " has more than $1 letters: write less"],
  [/:? String should (?:match|be|have).*$/, " cannot be read as it is written: write it in another way"],
  [/:? Input should be a valid string.*$/, " must be words"],
  [/:? List should have at most (\d+) items?.*$/, " can be given $1 times at once: give fewer"],
  [/:? List should have at least .*$/, " is missing"],
  [/:? Field required$/, " is missing"],
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
  const named = said.replace(/^([a-z_]+)(?=:| (?:is|has|was|lasts|must|can|cannot)\b)/i, (word) => nameOf(word.toLowerCase()) ?? word);
  const known = named.replace(/\b[a-z]+_[a-z_]+\b/g, (word) => nameOf(word) ?? word);
  return known
    .replace(/ is (image|video|audio) \((\w+)\)/g, (_, kind: string, suffix: string) => ` is ${MEDIA[kind]} (${suffix})`)
    .replace(/^(.* (?:is of a kind that is not read|is an? \w+ \(\w+\))); expected .*$/, "$1");
}

function nameOf(word: string): string | null {
  return FILES[word]?.[0] ?? FIELDS[word] ?? null;
}
