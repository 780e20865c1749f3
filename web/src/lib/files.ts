// Files that a person drops, pastes or chooses.

export type Kind = "image" | "video" | "audio";
export const ACCEPTED: Record<Kind, string> = {
  image: "image/png,image/jpeg,image/webp",
  video: "video/mp4,video/quicktime,video/webm,.mkv",
  audio: "audio/*,.wav,.mp3,.flac,.m4a",
};

/** The first file of this kind that was dropped or pasted, or null. */
export function fileOf(data: DataTransfer | null, kind: Kind): File | null {
  if (data === null) return null;
  return [...data.files].find((file) => file.type.startsWith(`${kind}/`)) ?? null;
}

export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  download(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function download(url: string, name: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}
