// What a clip is called where nobody gave it a title.
import type { StudioClip } from "../api/types";

export function titleOf(clip: StudioClip): string {
  return clip.title || clip.prompt || "Untitled clip";
}
