// Files that a person drops, pastes or chooses.
import type { Kind } from "./kinds";

export const ACCEPTED: Record<Kind, string> = {
  image: "image/*",
  video: "video/*,.mkv,.ts,.flv,.gif",
  audio: "audio/*,.wav,.mp3,.flac,.ogg,.m4a,.aiff,.caf",
};

/** The file that was meant for a field of this kind, and how many more there were. */
export function meantFor(kind: Kind, given: Iterable<File> | null | undefined): { file: File | null; more: number } {
  const files = [...(given ?? [])];
  const file = files.find((one) => one.type.startsWith(`${kind}/`)) ?? files[0] ?? null;
  return { file, more: Math.max(0, files.length - 1) };
}

/** The first file of this kind that was pasted, or null. */
export function fileOf(data: DataTransfer | null, kind: Kind): File | null {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith(`${kind}/`)) ?? null;
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
