// The thread that works: reads a file's frames and sound, runs the network, and posts finished maps.

import { ALL_FORMATS, AudioSampleSink, BlobSource, Input, VideoSampleSink, type InputAudioTrack } from "mediabunny";
import { Network, Stream, type FinishedMap } from "./engine";
import { shrinkPicture } from "./grid";
import { convertYuv } from "./yuv";
import { MelTrack, Resampler, SAMPLE_RATE } from "./sound";

let network: Promise<Network>;
let camera: Stream | null = null;
let current = 0; // the number of the page's job: a file, a picture, or the camera
let turn: Promise<void> = Promise.resolve(); // one job at a time: the next begins when the one before has seen that it is over

class Over extends Error {}

/** One job of the page. Once the page has begun another, nothing of this one is told any more. */
class Job {
  constructor(private readonly number: number) {}

  get over(): boolean {
    return this.number !== current;
  }

  check(): void {
    if (this.over) throw new Over();
  }

  tell(message: object, transfer: Transferable[] = []): void {
    if (!this.over) postMessage({ job: this.number, ...message }, { transfer });
  }

  readonly map = (found: FinishedMap): void => {
    const map = Uint16Array.from(found.map.values, (v) => Math.round(65535 * Math.min(1, Math.max(0, v))));
    const { width, height } = found.map;
    this.tell({ kind: "map", index: found.index, seconds: found.seconds, map, width, height }, [map.buffer]);
  };
}

async function fetchBytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function load(base: string, job: Job): Promise<Network> {
  const about = await (await fetch(base + "weights.json")).json();
  const ort = await import(/* @vite-ignore */ base + "ort.wasm.min.mjs");
  // The service worker keeps large files by their whole address: another version has another
  const packed = await fetchBytes(`${base}ort-wasm-simd-threaded.wasm.gz?version=${ort.env.versions.web}`);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const wasm = await new Response(stream).arrayBuffer();
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  const bytes = await fetchBytes(`${base}${about.file}?sha256=${about.sha256}`);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hash = [...digest].map((b) => b.toString(16).padStart(2, "0")).join("");
  if (hash !== about.sha256) throw new Error("The weights are damaged: their SHA-256 is not the expected one. Reload the page.");
  const opened = await Network.open(ort, bytes, about.config, about.finish);
  job.tell({ kind: "ready", threads: ort.env.wasm.numThreads });
  return opened;
}

async function readSound(track: InputAudioTrack, job: Job): Promise<MelTrack | null> {
  const parts: Int16Array[] = [];
  let resampler: Resampler | null = null;
  let start = 0;
  const keep = (samples: Float32Array) =>
    parts.push(Int16Array.from(samples, (v) => Math.max(-32768, Math.min(32767, Math.round(v * 32768)))));
  for await (const sample of new AudioSampleSink(track).samples()) {
    if (!resampler) {
      resampler = new Resampler(sample.sampleRate);
      start = sample.timestamp;
    }
    if (job.over) {
      sample.close();
      throw new Over();
    }
    const mono = new Float32Array(sample.numberOfFrames);
    const one = new Float32Array(sample.numberOfFrames);
    for (let c = 0; c < sample.numberOfChannels; c++) {
      sample.copyTo(one, { planeIndex: c, format: "f32-planar" });
      for (let i = 0; i < mono.length; i++) mono[i] += one[i] / sample.numberOfChannels;
    }
    sample.close();
    keep(resampler.push(mono));
  }
  if (!resampler) return null;
  keep(resampler.end());
  const all = new Int16Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all.length > SAMPLE_RATE / 100 ? new MelTrack(all, start) : null;
}

async function video(input: Input, job: Job): Promise<void> {
  const opened = await network;
  const track = await input.getPrimaryVideoTrack();
  if (!track) throw new Error("it holds no picture");
  if (!(await track.canDecode())) throw new Error(`this browser cannot decode ${track.codec ?? "its video"}; convert it to H.264 or VP9`);
  const audio = await input.getPrimaryAudioTrack();
  const statistics = await track.computePacketStats(200);
  const duration = await input.computeDuration();
  job.tell({ kind: "opened", frameRate: statistics.averagePacketRate, duration, sound: !!audio });
  const sound = audio && (await audio.canDecode()) ? await readSound(audio, job) : null;
  const stream = new Stream(opened, statistics.averagePacketRate, sound, job.map);
  const colour = await track.getColorSpace(); // as the file says; browsers guess otherwise than FFmpeg does
  const started = performance.now();
  let count = 0;
  let rgba = new Uint8Array(0);
  for await (const sample of new VideoSampleSink(track).samples()) {
    if (job.over) {
      sample.close();
      throw new Over();
    }
    const { codedWidth: w, codedHeight: h, format } = sample;
    if (rgba.length !== w * h * 4) rgba = new Uint8Array(w * h * 4);
    if (format === "I420" || format === "NV12") {
      const planes = new Uint8Array(sample.allocationSize());
      const layout = await sample.copyTo(planes);
      convertYuv(planes, layout, format === "NV12", w, h, colour.matrix === "bt709", !!colour.fullRange, rgba);
    } else await sample.copyTo(rgba, { format: "RGBA" });
    const { timestamp } = sample;
    sample.close();
    await stream.add(timestamp, shrinkPicture(rgba, w, h, opened.config.width, opened.config.height));
    if (++count % 10 === 0) job.tell({ kind: "progress", seconds: timestamp, framesPerSecond: (1000 * count) / (performance.now() - started) });
  }
  job.check();
  await stream.end();
  job.tell({ kind: "done", frames: count, framesPerSecond: (1000 * count) / (performance.now() - started) });
}

async function picture(pixels: ImageData, job: Job): Promise<void> {
  const opened = await network;
  job.check();
  const stream = new Stream(opened, 1, null, job.map);
  await stream.add(0, shrinkPicture(pixels.data, pixels.width, pixels.height, opened.config.width, opened.config.height));
  await stream.end();
  job.tell({ kind: "done", frames: 1, framesPerSecond: 0 });
}

async function cameraFrame(pixels: ImageData, seconds: number, job: Job): Promise<void> {
  const { config } = await network;
  job.check();
  await camera!.add(seconds, shrinkPicture(pixels.data, pixels.width, pixels.height, config.width, config.height));
  job.tell({ kind: "next" });
}

async function work(data: any, job: Job): Promise<void> {
  try {
    job.check();
    if (data.kind === "video") {
      const input = new Input({ source: new BlobSource(data.file), formats: ALL_FORMATS });
      await video(input, job).finally(() => input.dispose());
    } else if (data.kind === "picture") await picture(data.pixels, job);
    else if (data.kind === "frame") await cameraFrame(data.pixels, data.seconds, job);
    else if (data.kind === "camera") {
      camera = new Stream(await network, 10, null, job.map);
      job.tell({ kind: "next" });
    }
  } catch (error) {
    job.tell({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  }
}

onmessage = ({ data }) => {
  const job = new Job(data.job);
  if (data.kind === "begin") current = data.job;
  else if (data.kind === "load") {
    network = load(data.base, job);
    network.catch((error) => job.tell({ kind: "failed", message: error.message }));
  } else turn = turn.then(() => work(data, job));
};
