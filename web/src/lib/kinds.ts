// What kind of file something is, by its first bytes as the server tells it: what cannot be taken is said before it is sent.

export type Kind = "image" | "video" | "audio";
/** The one list of what can be given, for fields and for messages. */
export const KINDS: Record<Kind, string> = {
  image: "a PNG, JPEG, WebP, GIF, BMP or TIFF picture",
  video: "an MP4, MOV, WebM, MKV, AVI, TS or FLV film",
  audio: "a WAV, FLAC, MP3, OGG, AIFF, CAF or M4A sound",
};
const CALLED: Record<Kind, string> = { image: "a picture", video: "a film", audio: "a sound" };
const SNIFFED_BYTES = 200;
const STARTS: [string, Kind][] = [
  ["\x89PNG\r\n\x1a\n", "image"],
  ["\xff\xd8\xff", "image"],
  ["GIF87a", "image"],
  ["GIF89a", "image"],
  ["BM", "image"],
  ["II*\0", "image"],
  ["MM\0*", "image"],
  ["\x1aE\xdf\xa3", "video"],
  ["FLV\x01", "video"],
  ["\0\0\x01\xba", "video"],
  ["fLaC", "audio"],
  ["OggS", "audio"],
  ["ID3", "audio"],
  ["caff", "audio"],
  ["\xff\xfb", "audio"],
  ["\xff\xf3", "audio"],
  ["\xff\xf2", "audio"],
];
const RIFF: Record<string, Kind> = { WEBP: "image", WAVE: "audio", "AVI ": "video" };
const STILL_BRANDS = ["avif", "avis", "heic", "heix", "mif1"];
// Pictures that no browser opens, and the server does.
const UNSEEN_HERE = ["II*\0", "MM\0*"];

/** Why the file cannot be given as `wanted`, as a sentence with a way on; null where it can. */
export async function refusalOf(file: Blob, name: string, wanted: Kind): Promise<string | null> {
  if (file.size === 0) return `${name} is an empty file. Use ${KINDS[wanted]}.`;
  const head = await headOf(file);
  const found = kindOf(head);
  if (!fits(found, head, wanted)) {
    return found === null
      ? `${name} is not ${CALLED[wanted]} that can be read. Use ${KINDS[wanted]}.`
      : `${name} is ${CALLED[found]}, not ${CALLED[wanted]}. Use ${KINDS[wanted]}.`;
  }
  if (wanted === "image" && !(await canBeSeen(file, head))) return `${name} is broken or cut off. Use another file.`;
  return null;
}

async function headOf(file: Blob): Promise<string> {
  const bytes = new Uint8Array(await file.slice(0, SNIFFED_BYTES).arrayBuffer());
  return String.fromCharCode(...bytes);
}

function kindOf(head: string): Kind | null {
  const start = STARTS.find(([bytes]) => head.startsWith(bytes));
  if (start !== undefined) return start[1];
  if (/^(?:RIFF|RF64)/.test(head)) return RIFF[head.slice(8, 12)] ?? null;
  if (/^FORM.{4}AIF[FC]/s.test(head)) return "audio";
  if (head.slice(4, 8) === "ftyp" && !STILL_BRANDS.includes(head.slice(8, 12))) return head.slice(8, 11) === "M4A" ? "audio" : "video";
  if (head.length > 188 && head[0] === "G" && head[188] === "G") return "video";
  return null;
}

/** A film's container may hold sound alone, and a moving GIF is a film without sound. */
function fits(found: Kind | null, head: string, wanted: Kind): boolean {
  return found === wanted || (wanted === "audio" && found === "video") || (wanted === "video" && head.startsWith("GIF"));
}

async function canBeSeen(file: Blob, head: string): Promise<boolean> {
  if (UNSEEN_HERE.some((start) => head.startsWith(start))) return true;
  try {
    (await createImageBitmap(file)).close();
    return true;
  } catch {
    return false;
  }
}
