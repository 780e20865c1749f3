// Sending what is asked for: its files once, each ahead of the requests that name it, and then what they are called.
import { Fault } from "./faults";
import { json } from "./http";
import type { ClipRequest, Plan, Task, Upload } from "./types";

/** A request's fields and its files, by the names of their fields. */
export interface Asked {
  task: Task;
  request: ClipRequest;
  files: Record<string, Blob>;
}

const GONE = "upload_not_found";
const sent = new WeakMap<Blob, Promise<string>>();

/** The request with references in the place of its files. */
async function withReferences({ request, files }: Asked): Promise<object> {
  const fields: Record<string, unknown> = { ...request };
  const keyframes: Record<string, unknown> = {};
  for (const [name, file] of Object.entries(files)) {
    const reference = { file_id: await idOf(file) };
    const moment = /^keyframes\[(.*)\]$/.exec(name)?.[1];
    if (moment === undefined) fields[name] = reference;
    else keyframes[moment] = reference;
  }
  return Object.keys(keyframes).length === 0 ? fields : { ...fields, keyframes };
}

/** A request that is given up does not stop its files on their way: the next one names them too. */
function idOf(file: Blob): Promise<string> {
  const known = sent.get(file);
  if (known !== undefined) return known;
  const form = new FormData();
  form.append("file", file, "upload");
  const id = json<Upload>("POST", "/v1/studio/uploads", form).then((upload) => upload.id);
  sent.set(file, id);
  id.catch(() => sent.delete(file));
  return id;
}

function forget({ files }: Asked): void {
  for (const file of Object.values(files)) sent.delete(file);
}

/** A job for the clip. Files that the server has no longer are sent again. */
export async function ask<T>(path: string, asked: Asked): Promise<T> {
  try {
    return await json<T>("POST", path, await withReferences(asked));
  } catch (error) {
    if (!(error instanceof Fault) || error.code !== GONE) throw error;
    forget(asked);
    return json<T>("POST", path, await withReferences(asked));
  }
}

export async function askForPlan(path: string, asked: Asked, signal: AbortSignal): Promise<Plan> {
  const plan = async () => json<Plan>("POST", path, { ...(await withReferences(asked)), task: asked.task }, signal);
  const found = await plan();
  if (!found.refused.some((one) => one.code === GONE)) return found;
  forget(asked);
  return plan();
}
