// The overlay as a video file with the original sound: MP4 where the browser can write H.264, else WebM.

import {
  ALL_FORMATS, BlobSource, BufferTarget, canEncodeVideo, Conversion, Input, Mp4OutputFormat, Output, StreamTarget, WebMOutputFormat,
} from "mediabunny";

type Paint = (context: CanvasRenderingContext2D, seconds: number, width: number, height: number) => void;

/** Where the file grows: in the browser's own storage on disk, or in memory where the browser has none. */
async function growing(name: string): Promise<{ target: BufferTarget | StreamTarget; finished: (type: string) => Promise<Blob> }> {
  try {
    const folder = await navigator.storage.getDirectory();
    for await (const [old] of folder.entries()) await folder.removeEntry(old).catch(() => undefined);
    const handle = await folder.getFileHandle(name, { create: true });
    const target = new StreamTarget(await handle.createWritable(), { chunked: true });
    return { target, finished: () => handle.getFile() };
  } catch {
    const target = new BufferTarget();
    return { target, finished: async (type) => new Blob([target.buffer!], { type }) };
  }
}

export async function saveOverlay(
  file: File, paint: Paint, told: (part: number) => void, ending: AbortSignal,
): Promise<{ blob: Blob; extension: string }> {
  const extension = (await canEncodeVideo("avc", { width: 1280, height: 720 })) ? "mp4" : "webm";
  const { target, finished } = await growing(`overlay-${Date.now()}.${extension}`);
  const output = new Output({ format: extension === "mp4" ? new Mp4OutputFormat() : new WebMOutputFormat(), target });
  const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS });
  const canvas = document.createElement("canvas");
  const conversion = await Conversion.init({
    input, output,
    video: {
      forceTranscode: true,
      process: (sample) => {
        canvas.width = sample.displayWidth;
        canvas.height = sample.displayHeight;
        const context = canvas.getContext("2d")!;
        sample.draw(context, 0, 0);
        paint(context, sample.timestamp, canvas.width, canvas.height);
        return canvas;
      },
    },
  });
  if (!conversion.isValid) throw new Error("this browser cannot encode it");
  conversion.onProgress = told;
  ending.throwIfAborted();
  ending.addEventListener("abort", () => conversion.cancel());
  await conversion.execute().finally(() => input.dispose());
  return { blob: await finished(`video/${extension}`), extension };
}
