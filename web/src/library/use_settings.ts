// Filling the Make form from a clip or a job, with the files that belonged to it.
import { getFile, getSettings } from "../api/calls";
import { asSentence } from "../api/faults";
import type { ClipRequest, GivenInput, StudioClip, StudioJob } from "../api/types";
import { startChanging } from "../state/changing.svelte";
import { copyOfDraft, draft, fillFrom, sayChanged, type Given } from "../state/draft.svelte";
import { attempt } from "../state/notices.svelte";
import { goTo } from "../state/route.svelte";

export async function useClip(clip: StudioClip): Promise<void> {
  await attempt(async () => {
    const settings = await getSettings(clip.id);
    const before = copyOfDraft();
    await fill(settings.request, settings.inputs);
    sayChanged(["The form has the settings of this clip.", ...settings.missing.map(missingSentence)].join(" "), before);
  });
}

export async function useJob(job: StudioJob): Promise<void> {
  await attempt(async () => {
    const before = copyOfDraft();
    await fill(job.request, job.inputs);
    const what = job.task === "create" ? "The form has its settings." : "It was a part of another clip; here it is asked for as a new one.";
    sayChanged(what, before);
  });
}

/** The settings of a job that waits, in the form, which then changes that job. */
export async function changeInForm(job: StudioJob): Promise<void> {
  await attempt(async () => {
    startChanging(job);
    await fill(job.request, job.inputs);
  });
}

/** The server says what is missing as a thing ("the first frame that it was made with"), or in a sentence of its own. */
function missingSentence(missing: string): string {
  return asSentence(/\bis not\b/.test(missing) ? missing : `${missing} is not in its file: add it before you make the clip`);
}

async function fill(request: ClipRequest, inputs: GivenInput[]): Promise<void> {
  const fetched = await Promise.all(inputs.map(async (input) => ({ input, given: await fetchGiven(input) })));
  fillFrom(request);
  for (const { input, given } of fetched) {
    if (input.field === "input_reference") draft.first = given;
    else if (input.field === "last_frame") draft.last = given;
    else if (input.field === "video") draft.film = given;
    else if (input.field === "audio") draft.music = given;
    else if (input.field === "voice") draft.voice = given;
    else if (typeof input.at === "number") draft.keyFrames.push({ at: input.at, picture: given });
  }
  goTo("make");
}

async function fetchGiven(input: GivenInput): Promise<Given> {
  const blob = await getFile(input.url);
  return { label: "From the other clip", blob, url: URL.createObjectURL(blob), clip: null };
}
