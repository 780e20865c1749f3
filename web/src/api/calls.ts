// Every request that the page makes, one function each.
import { ask, askForPlan, type Asked } from "./asking";
import { another, json, query, send } from "./http";
import type * as T from "./types";

const each = encodeURIComponent;

export const getSession = () => json<T.Session>("GET", "/studio/session");
export const signIn = (key: string) => json<T.Session>("POST", "/studio/session", { key });
export const signOut = () => json<T.Session>("DELETE", "/studio/session");

/** Asked first and again and again: what is none of Phonofilm's answers must not be taken for one. */
export async function getInfo(): Promise<T.StudioInfo> {
  const found = await json<Partial<T.StudioInfo>>("GET", "/v1/studio/info");
  if (!Array.isArray(found.models) || !Array.isArray(found.workers)) throw another(200);
  return found as T.StudioInfo;
}
export const getVocabulary = (model: string) => json<T.Vocabulary>("GET", `/v1/studio/vocabulary${query({ model })}`);

const ROUTES: Record<T.Task, string> = {
  create: "/v1/videos",
  edit: "/v1/videos/edits",
  extension: "/v1/videos/extensions",
};

export const makeClip = (asked: Asked) => ask<T.StudioJob>(ROUTES[asked.task], asked);
export const planClip = (asked: Asked, signal: AbortSignal) => askForPlan("/v1/studio/plan", asked, signal);
export const writePrompt = (idea: { prompt: string; model: string | undefined; seconds: number | undefined }, signal: AbortSignal) =>
  json<T.WrittenPrompt>("POST", "/v1/studio/prompt", idea, signal);

export const listJobs = () => json<T.StudioJobs>("GET", "/v1/studio/jobs");
export const cancelJob = (id: string) => json<{ status: string }>("POST", `/v1/videos/${each(id)}/cancel`);
export const dismissJob = (id: string) => json<T.StudioJob>("POST", `/v1/studio/jobs/${each(id)}/dismiss`);
export const retryJob = (id: string) => json<T.StudioJob>("POST", `/v1/studio/jobs/${each(id)}/retry`);
export const moveJob = (id: string, index: number) => json<unknown>("POST", `/v1/videos/${each(id)}/move`, { index });
export const changeJob = (id: string, changes: Partial<T.ClipRequest>) =>
  json<unknown>("PATCH", `/v1/videos/${each(id)}`, changes);

export interface ClipQuery {
  q?: string;
  tag?: string[];
  folder?: string | null;
  favourite?: boolean;
  model?: string | null;
  trashed?: boolean;
  made_from?: string;
  sort?: string;
  limit?: number;
  cursor?: string | null;
}
export const listClips = (asked: ClipQuery, signal?: AbortSignal) =>
  json<T.ClipList>("GET", `/v1/studio/clips${query({ ...asked })}`, undefined, signal);
export const getShelves = () => json<T.Shelves>("GET", "/v1/studio/shelves");
export const getClip = (id: string) => json<T.StudioClip>("GET", `/v1/studio/clips/${each(id)}`);
export interface ClipChanges {
  title?: string;
  favourite?: boolean;
  folder?: string;
}
export const changeClip = (id: string, changes: ClipChanges) =>
  json<T.StudioClip>("PATCH", `/v1/studio/clips/${each(id)}`, changes);
export interface ManyChanges {
  ids: string[];
  favourite?: boolean;
  folder?: string;
  add_tags?: string[];
  remove_tags?: string[];
}
export const changeClips = (changes: ManyChanges) => json<{ data: T.StudioClip[] }>("POST", "/v1/studio/clips/change", changes);
export const trashClips = (ids: string[]) => json<unknown>("POST", "/v1/studio/clips/trash", { ids });
export const restoreClips = (ids: string[]) => json<unknown>("POST", "/v1/studio/clips/restore", { ids });
export const emptyTrash = () => json<{ purged: number }>("POST", "/v1/studio/clips/purge", { everything: true });
export const getSettings = (id: string) => json<T.ClipSettings>("GET", `/v1/studio/clips/${each(id)}/settings`);
export const makeVariations = (id: string, count: number) =>
  json<{ data: T.StudioJob[] }>("POST", `/v1/studio/clips/${each(id)}/variations`, { count });
export const getFrame = async (id: string, at: number) =>
  (await send("GET", `/v1/studio/clips/${each(id)}/frame${query({ at: at.toFixed(4) })}`)).blob();
export const getFile = async (url: string) => (await send("GET", url)).blob();
export const getTimeline = (id: string) => json<T.Timeline>("GET", `/v1/studio/clips/${each(id)}/timeline`);
export const filmstripUrl = (id: string, count: number, height: number) =>
  `/v1/studio/clips/${each(id)}/frames${query({ count, height })}`;

export function importFiles(files: Blob[], signal: AbortSignal): Promise<T.ImportReport> {
  const form = new FormData();
  for (const file of files) form.append("file", file);
  return json<T.ImportReport>("POST", "/v1/studio/imports", form, signal);
}
export const listImportable = () => json<T.Importable>("GET", "/v1/studio/imports");
export const importFromFolder = (ids: string[], signal: AbortSignal) =>
  json<T.ImportReport>("POST", "/v1/studio/imports/folder", { ids }, signal);

export const getArena = (by: string) => json<T.Arena>("GET", `/v1/studio/arena${query({ by })}`);
export const nextPair = (by: string) => json<T.ArenaPair>("POST", "/v1/studio/arena/pairs", { by });
export const votePair = (key: string, answers: Partial<Record<T.Question, T.Choice>>) =>
  json<T.Reveal>("POST", `/v1/studio/arena/pairs/${each(key)}/vote`, { answers });
export const getStandings = (by: string, question: T.Question) =>
  json<T.Standings>("GET", `/v1/studio/arena/standings${query({ by, question })}`);

export const listRuns = () => json<{ data: T.Run[] }>("GET", "/v1/studio/runs");
export const getRun = (id: string) => json<T.RunDetails>("GET", `/v1/studio/runs/${each(id)}`);
export const stopRun = (id: string) => json<T.Run>("POST", `/v1/studio/runs/${each(id)}/stop`);
