// What kind of file something is, by its first bytes as the server tells it: what cannot be taken is said before it is sent.

export type Kind = "image" | "video" | "audio";
/** The one list of what can be given, for fields and for messages. */
export const KINDS: Record<Kind, string> = {
  image: "a PNG, JPEG, WebP, GIF, BMP or TIFF picture",
  video: "an MP4, MOV, WebM, MKV, AVI, TS or FLV film",
  audio: "a WAV, FLAC, MP3, OGG, AIFF, CAF or M4A sound",
};
const CALLED: Record<Kind, string> = { image: "a picture", video: "a film", audio: "a sound" };
const SNIFFED_BYTES = 512;
// What files begin with, in which a dot is any byte: the same as in the server's sniffing.py, which a test compares.
const BEGINNINGS: [RegExp, Kind][] = [
  [/^\x89PNG\r\n\x1a\n/s, "image"],
  [/^\xff\xd8\xff/s, "image"],
  [/^GIF8[79]a/s, "image"],
  [/^BM/s, "image"],
  [/^II\*\x00/s, "image"],
  [/^MM\x00\*/s, "image"],
  [/^RIFF.{4}WEBP/s, "image"],
  [/^\x1aE\xdf\xa3/s, "video"],
  [/^FLV\x01/s, "video"],
  [/^\x00\x00\x01\xba/s, "video"],
  [/^RIFF.{4}AVI /s, "video"],
  [/^fLaC/s, "audio"],
  [/^OggS/s, "audio"],
  [/^ID3/s, "audio"],
  [/^caff/s, "audio"],
  [/^\xff[\xfb\xf3\xf2]/s, "audio"],
  [/^(?:RIFF|RF64).{4}WAVE/s, "audio"],
  [/^FORM.{4}AIF[FC]/s, "audio"],
  [/^.{4}ftypM4A/s, "audio"],
  [/^.{4}ftyp(?!avif|avis|heic|heix|mif1)/s, "video"],
  [/^G.{187}G/s, "video"],
];
// The most that the server reads, as its readable.py says, which a test compares: a larger one would keep the page busy for long.
const MAX_IMAGE_PIXELS = 64_000_000;
// Where a JPEG says how large it is, after what a camera wrote.
const JPEG_HEAD_BYTES = 262_144;
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
  const size = wanted === "image" ? await sizeOf(file, head) : null;
  if (size !== null && size[0] * size[1] > MAX_IMAGE_PIXELS) {
    return `${name} has ${size[0]} × ${size[1]} pixels, and at most ${MAX_IMAGE_PIXELS / 1e6} million are read. Use a smaller one.`;
  }
  if (wanted === "image" && !(await canBeSeen(file, head))) return `${name} is broken or cut off. Use another file.`;
  return null;
}

async function headOf(file: Blob): Promise<string> {
  const bytes = new Uint8Array(await file.slice(0, SNIFFED_BYTES).arrayBuffer());
  return String.fromCharCode(...bytes);
}

/** Width and height by the first bytes, of the two kinds that are that large, without opening the picture. */
async function sizeOf(file: Blob, head: string): Promise<[number, number] | null> {
  if (head.startsWith("\x89PNG")) {
    const view = new DataView(await file.slice(0, 24).arrayBuffer());
    return view.byteLength < 24 ? null : [view.getUint32(16), view.getUint32(20)];
  }
  if (!head.startsWith("\xff\xd8")) return null;
  const view = new DataView(await file.slice(0, JPEG_HEAD_BYTES).arrayBuffer());
  for (let at = 2; at + 9 < view.byteLength && view.getUint8(at) === 0xff; at += 2 + view.getUint16(at + 2)) {
    const marker = view.getUint8(at + 1);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
  }
  return null;
}

function kindOf(head: string): Kind | null {
  return BEGINNINGS.find(([beginning]) => beginning.test(head))?.[1] ?? null;
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
