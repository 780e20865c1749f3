// The server's answers by the names that the page uses. Their fields come from the server's own description, schema.d.ts.
import type { components } from "./schema";

type Schemas = components["schemas"];
/** What the server describes as any object, told more exactly. */
type With<Whole, Part> = Omit<Whole, keyof Part> & Part;

export type Session = Schemas["StudioSession"];
export type StudioWorker = Schemas["StudioWorker"];
export type StudioModel = With<Schemas["StudioModel"], { sizes: ModelSizes | null }>;
export type StudioInfo = With<Schemas["StudioInfo"], { models: StudioModel[] }>;
export type Vocabulary = Schemas["VocabularyAnswer"];
export type Plan = Schemas["Plan"];
export type Upload = Schemas["Upload"];
export type WrittenPrompt = Schemas["WrittenPrompt"];
export type StudioClip = Schemas["StudioClip"];
export type ClipList = Schemas["ClipPageAnswer"];
export type Shelves = Schemas["ShelvesAnswer"];
export type GivenInput = Schemas["GivenInput"];
export type ClipSettings = With<Schemas["ClipSettings"], { request: ClipRequest }>;
export type StudioJob = With<Schemas["StudioJob"], { request: ClipRequest }>;
export type StudioJobs = Record<"running" | "waiting" | "ended", StudioJob[]>;
export type ImportReport = Schemas["ImportReport"];
export type Importable = Schemas["ImportFolders"];
export type Timeline = Schemas["Timeline"];
export type Arena = Schemas["ArenaState"];
export type ArenaPair = Schemas["ArenaPair"];
export type Reveal = Schemas["Reveal"];
export interface Rating {
  model: string;
  elo: number;
  bradley_terry: number;
  low: number | null;
  high: number | null;
  votes: number;
}
export type Standings = With<Schemas["Standings"], { ratings: Rating[] }>;
export type Run = Schemas["Run"];
export type RunCurve = With<
  Schemas["RunCurve"],
  { modality: "video" | "audio" | "both" | null; points: [number, number, number][] }
>;
export type RunSample = Schemas["RunSample"];
export type RunDetails = With<Schemas["RunDetails"], { curves: RunCurve[] }>;

/** In `loras`, instead of a LoRA: none at all, also not the model's own. */
export const NO_LORA = "none";

export interface ModelSizes {
  height: number;
  width: number;
  num_frames: number;
  fps: string | number;
  spatial_factor: number;
  temporal_factor: number;
  patch: number;
  steps: number;
}
export type Task = "create" | "edit" | "extension";
/** How many frames of the clip a continuation begins with, which its `seconds` count. A test compares it with the server's. */
export const OVERLAP_FRAMES = 17;
/** The fields of POST /v1/videos and its two sisters that the page fills. */
export interface ClipRequest {
  prompt: string;
  model?: string;
  negative_prompt?: string;
  seconds?: number;
  size?: string;
  seed?: number;
  n?: number;
  num_inference_steps?: number;
  guidance_scale?: number;
  modality_scale?: number | string;
  loras?: string[];
  video?: { id: string };
  audio?: { id: string };
  start?: number;
  end?: number;
  retake?: string;
  retake_tracks?: string;
  continue_at?: number;
  enhance_prompt?: boolean;
  draw_first_frame?: boolean;
}
export type Side = "left" | "right";
export type Choice = Side | "tie";
export type Question = "picture" | "sound" | "sync" | "overall";
