// The server's answers by the names that the page uses.
export interface Session {
  needs_key: boolean;
  signed_in: boolean;
  can_write: boolean;
  can_administer: boolean;
}
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
export interface StudioModel {
  id: string;
  loaded: boolean;
  embedded: boolean | null;
  sizes: ModelSizes | null;
}
export interface StudioWorker {
  state: "starting" | "ready" | "busy";
  models: string[];
  memory: number;
}
export interface StudioInfo {
  version: string;
  models: StudioModel[];
  loras: string[];
  limits: {
    max_seconds: number;
    max_steps: number;
    max_side: number;
    max_clips: number;
    max_prompt_characters: number;
    max_upload_bytes: number;
  };
  features: { enhance_prompt: boolean; urls: boolean; import_folders: boolean; runs: boolean; lag: boolean };
  workers: StudioWorker[];
  trash_days: number;
  keep_days: number | null;
}
export interface Vocabulary {
  embedded: boolean;
  words: string[];
  scenes: string[];
  prompts: string[];
}
export interface Plan {
  possible: boolean;
  refused: { message: string; param: string | null; code: string }[];
  line: string | null;
  clip: {
    width: number;
    height: number;
    num_frames: number;
    fps: number;
    seconds: number;
    steps: number;
    forwards: number;
    parts: number;
  } | null;
  seconds: number | null;
  seconds_basis: "measured" | "computed" | "at_least" | null;
  queue_seconds: number | null;
  memory: { weights_bytes: number; available_bytes: number; where: "host" | "device"; text: string | null } | null;
  warnings: string[];
  unknown_words: string[];
  suggestions: string[];
}
export interface StudioClip {
  id: string;
  job_id: string;
  index: number;
  model: string;
  title: string;
  prompt: string;
  seed: number | null;
  created_at: number;
  expires_at: number | null;
  trashed_at: number | null;
  purge_at: number | null;
  size: string | null;
  width: number | null;
  height: number | null;
  seconds: number | null;
  fps: number | null;
  num_frames: number | null;
  steps: number | null;
  nbytes: number;
  favourite: boolean;
  folder: string;
  tags: string[];
  imported: boolean;
  remixed_from: string | null;
  video_url: string;
  thumbnail_url: string;
  spritesheet_url: string;
  sound_url: string;
  settings_url: string;
  frame_url: string;
}
export interface GivenInput {
  field: "input_reference" | "last_frame" | "video" | "audio" | "voice" | "keyframe";
  kind: "image" | "video" | "audio";
  url: string;
  at: number | null;
}
export type Task = "create" | "edit" | "extension";
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
}
export interface ClipSettings {
  task: Task;
  url: string;
  request: ClipRequest;
  inputs: GivenInput[];
  missing: string[];
}
export type JobStatus = "queued" | "in_progress" | "completed" | "failed" | "cancelled";
export interface StudioJob {
  id: string;
  model: string;
  status: JobStatus;
  progress: number;
  created_at: number;
  completed_at: number | null;
  size: string | null;
  seconds: string | null;
  prompt: string | null;
  error: { code: string; message: string } | null;
  num_outputs: number;
  stage: string | null;
  step: number;
  steps: number;
  warnings: string[];
  inference_time_s: number | null;
  task: Task;
  place: number | null;
  eta_seconds: number | null;
  preview_url: string | null;
  clip_ids: string[];
  request: ClipRequest;
  inputs: GivenInput[];
}
export interface StudioJobs {
  running: StudioJob[];
  waiting: StudioJob[];
  ended: StudioJob[];
}
export interface ClipList {
  data: StudioClip[];
  next_cursor: string | null;
  total: number;
}
export interface Count {
  name: string;
  count: number;
}
export interface Shelves {
  total: number;
  favourites: number;
  trashed: number;
  bytes: number;
  tags: Count[];
  folders: Count[];
  models: Count[];
}
export interface ImportReport {
  data: StudioClip[];
  refused: { name: string; message: string }[];
}
export interface Importable {
  folders: {
    name: string;
    files: { id: string; name: string; nbytes: number; modified_at: number; imported: boolean }[];
  }[];
}
export interface Timeline {
  seconds: number;
  fps: number;
  num_frames: number;
  width: number;
  height: number;
  sampling_rate: number | null;
  peaks: { per_second: number; channels: { low: number[]; high: number[] }[] } | null;
  spectrogram: { url: string; seconds: number; lowest_hz: number; highest_hz: number; range_db: number } | null;
  heard: number[];
  seen: number[] | null;
  impact: number[] | null;
  lag: {
    milliseconds: number | null;
    significance: number | null;
    reason: string | null;
    curve: { seconds: number[]; correlation: number[] } | null;
  };
}
export type Side = "left" | "right";
export type Choice = Side | "tie";
export type Question = "picture" | "sound" | "sync" | "overall";
export interface Arena {
  by: string;
  contestants: { name: string; clips: number }[];
  pairs: number;
  voted: number;
}
export interface ArenaPair {
  key: string;
  prompt: string;
  left_url: string;
  right_url: string;
  voted: number;
  pairs: number;
}
export interface Reveal {
  left: { name: string; clip: StudioClip };
  right: { name: string; clip: StudioClip };
}
export interface Standings {
  question: string;
  ratings: { model: string; elo: number; bradley_terry: number; low: number; high: number; votes: number }[];
  win_shares: { model: string; opponent: string; win: number; tie: number; lose: number; votes: number }[];
}
export interface Run {
  id: string;
  name: string;
  folder: string;
  state: "running" | "stopping" | "stopped";
  step: number | null;
  steps: number | null;
  seconds: number | null;
  eta_seconds: number | null;
  updated_at: number | null;
  metrics: string[];
  checkpoints: number[];
  can_stop: boolean;
}
export interface RunCurve {
  name: string;
  modality: "video" | "audio" | "both" | null;
  points: [number, number, number][];
}
export interface RunSample {
  step: number;
  name: string;
  video_url: string;
  sheet_url: string;
}
export interface RunDetails {
  run: Run;
  curves: RunCurve[];
  samples: RunSample[];
}
