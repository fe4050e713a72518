// The overlay as a video file with the original sound: MP4 where the browser can write H.264, else WebM. It grows on disk.

import {
  ALL_FORMATS, BlobSource, BufferTarget, canEncodeVideo, Conversion, Input, Mp4OutputFormat, Output, StreamTarget, WebMOutputFormat,
  type Target,
} from "mediabunny";

type Paint = (context: CanvasRenderingContext2D, seconds: number, width: number, height: number) => void;

/** Where the file grows. `finished` gives it for a download, or null where it already lies where the user wants it. */
interface Place {
  target: Target;
  finished: (type: string) => Promise<Blob | null>;
  discard: () => Promise<void>;
}

/** A file on disk, which is what it was before until it is closed here: a conversion that is cancelled would close it, too. */
async function grow(handle: FileSystemFileHandle): Promise<{ file: FileSystemWritableFileStream; target: Target }> {
  const file = await handle.createWritable();
  return { file, target: new StreamTarget(new WritableStream({ write: (chunk) => file.write(chunk) }), { chunked: true }) };
}

/** A file that the user chooses, where a browser has a dialog for that. Raises AbortError if the user chooses none. */
async function chosen(name: string, kind: string): Promise<Place> {
  const types = [{ description: "Video", accept: { [`video/${kind}`]: [`.${kind}`] } }];
  const handle = await (window as any).showSaveFilePicker({ suggestedName: name, types });
  const { file, target } = await grow(handle);
  return {
    target,
    finished: async () => (await file.close(), null),
    discard: async () => {
      await file.abort();
      if (!(await handle.getFile()).size) await handle.remove?.(); // the dialog made an empty one
    },
  };
}

/** The browser's own storage on disk; memory where the browser has none. */
async function stored(name: string): Promise<Place> {
  try {
    const folder = await navigator.storage.getDirectory();
    for await (const [old] of folder.entries()) await folder.removeEntry(old).catch(() => undefined);
    const handle = await folder.getFileHandle(name, { create: true });
    const { file, target } = await grow(handle);
    return {
      target,
      finished: async () => (await file.close(), handle.getFile()),
      discard: async () => (await file.abort(), folder.removeEntry(name)),
    };
  } catch {
    const target = new BufferTarget();
    return { target, finished: async (type) => new Blob([target.buffer!], { type }), discard: async () => undefined };
  }
}

/** What this browser can write. Known before a click, because the dialog for a file must follow a click at once. */
export const extension: Promise<"mp4" | "webm"> = canEncodeVideo("avc", { width: 1280, height: 720 }).then((can) => (can ? "mp4" : "webm"));

/** Writes `stem`.mp4 or .webm; what is returned is still to be downloaded. Raises AbortError when `ending` ends it: nothing is left. */
export async function saveOverlay(
  file: File, stem: string, paint: Paint, told: (part: number) => void, ending: AbortSignal,
): Promise<{ blob: Blob | null; name: string }> {
  const kind = await extension;
  const name = `${stem}.${kind}`;
  const place = await ("showSaveFilePicker" in window ? chosen(name, kind) : stored(name));
  const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS });
  try {
    ending.throwIfAborted();
    const format = kind === "mp4" ? new Mp4OutputFormat() : new WebMOutputFormat();
    const conversion = await converted(input, new Output({ format, target: place.target }), paint);
    conversion.onProgress = told;
    const cancel = () => void conversion.cancel();
    ending.addEventListener("abort", cancel);
    await conversion.execute().finally(() => ending.removeEventListener("abort", cancel));
    ending.throwIfAborted();
    return { blob: await place.finished(`video/${kind}`), name };
  } catch (error) {
    await place.discard().catch(() => undefined);
    ending.throwIfAborted();
    throw error;
  } finally {
    input.dispose();
  }
}

async function converted(input: Input, output: Output, paint: Paint): Promise<Conversion> {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d")!;
  const conversion = await Conversion.init({
    input, output,
    video: {
      forceTranscode: true,
      process: (sample) => {
        if (canvas.width !== sample.displayWidth) canvas.width = sample.displayWidth;
        if (canvas.height !== sample.displayHeight) canvas.height = sample.displayHeight;
        sample.draw(context, 0, 0);
        paint(context, sample.timestamp, canvas.width, canvas.height);
        return canvas;
      },
    },
  });
  if (!conversion.isValid) throw new Error("this browser cannot encode it");
  return conversion;
}
