// The overlay as a video file with the original sound: MP4 where the browser can write H.264, else WebM.

import { ALL_FORMATS, BlobSource, BufferTarget, canEncodeVideo, Conversion, Input, Mp4OutputFormat, Output, WebMOutputFormat } from "mediabunny";

type Paint = (context: CanvasRenderingContext2D, seconds: number, width: number, height: number) => void;

export async function saveOverlay(
  file: File, paint: Paint, told: (part: number) => void, ending: AbortSignal,
): Promise<{ blob: Blob; extension: string }> {
  const mp4 = await canEncodeVideo("avc", { width: 1280, height: 720 });
  const target = new BufferTarget();
  const output = new Output({ format: mp4 ? new Mp4OutputFormat() : new WebMOutputFormat(), target });
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
  await conversion.execute();
  return { blob: new Blob([target.buffer!], { type: mp4 ? "video/mp4" : "video/webm" }), extension: mp4 ? "mp4" : "webm" };
}
