// The thread that works: reads a file's frames and sound, runs the network, and posts finished maps.

import { ALL_FORMATS, AudioSampleSink, BlobSource, Input, VideoSampleSink, type InputAudioTrack } from "mediabunny";
import type { Engine } from "./choice";
import { EngineError, Stream, type FinishedMap } from "./engine";
import { turned } from "./grid";
import { load, type Loaded } from "./loading";
import { MelTrack, Resampler, SAMPLE_RATE } from "./sound";
import { convertYuv } from "./yuv";

const HD_LINES = 720; // from here on, colours of which the file says nothing are taken for BT.709
let loaded: Promise<Loaded>;
let base: string; // where the page lies
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
    const { index, seconds, faces } = found;
    this.tell({ kind: "map", index, seconds, map, width, height, faces }, [map.buffer]);
  };
}

async function readSound(track: InputAudioTrack, job: Job): Promise<MelTrack | null> {
  const parts: Int16Array[] = [];
  let resampler: Resampler | null = null;
  let start = 0;
  const keep = (samples: Float32Array) =>
    parts.push(Int16Array.from(samples, (v) => Math.max(-32768, Math.min(32767, Math.round(v * 32768)))));
  for await (const sample of new AudioSampleSink(track).samples()) {
    if (job.over) {
      sample.close();
      throw new Over();
    }
    const early = Math.max(0, Math.round(-sample.timestamp * sample.sampleRate)); // samples that no player lets be heard
    const mono = new Float32Array(sample.numberOfFrames);
    const one = new Float32Array(sample.numberOfFrames);
    for (let c = 0; c < sample.numberOfChannels; c++) {
      sample.copyTo(one, { planeIndex: c, format: "f32-planar" });
      for (let i = 0; i < mono.length; i++) mono[i] += one[i] / sample.numberOfChannels;
    }
    sample.close();
    if (early >= mono.length) continue;
    if (!resampler) {
      resampler = new Resampler(sample.sampleRate);
      start = Math.max(0, sample.timestamp);
    }
    keep(resampler.push(mono.subarray(early)));
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
  const { network } = await loaded;
  const track = await input.getPrimaryVideoTrack();
  if (!track) throw new Error("it holds no picture");
  if (!(await track.canDecode())) throw new Error(`this browser cannot decode ${track.codec ?? "its video"}; convert it to H.264 or VP9`);
  const audio = await input.getPrimaryAudioTrack();
  const statistics = await track.computePacketStats(200);
  const duration = await input.computeDuration();
  job.tell({ kind: "opened", frameRate: statistics.averagePacketRate, duration, sound: !!audio });
  const sound = audio && (await audio.canDecode()) ? await readSound(audio, job) : null;
  const stream = new Stream(network, statistics.averagePacketRate, sound, job.map);
  const colour = await track.getColorSpace(); // as the file says; browsers guess otherwise than FFmpeg does
  const started = performance.now();
  let count = 0;
  const pictures: Uint8ClampedArray[] = []; // RGBA of this frame and of the one before, in turn
  for await (const sample of new VideoSampleSink(track).samples()) {
    if (job.over) {
      sample.close();
      throw new Over();
    }
    const { codedWidth: w, codedHeight: h, format } = sample;
    if (pictures[count % 2]?.length !== w * h * 4) pictures[count % 2] = new Uint8ClampedArray(w * h * 4);
    const rgba = pictures[count % 2];
    if (format === "I420" || format === "NV12") {
      const planes = new Uint8Array(sample.allocationSize());
      const layout = await sample.copyTo(planes);
      const is709 = colour.matrix ? colour.matrix === "bt709" : h >= HD_LINES;
      convertYuv(planes, layout, format === "NV12", w, h, is709, !!colour.fullRange, rgba);
    } else await sample.copyTo(rgba, { format: "RGBA" });
    const { timestamp, rotation, flip } = sample;
    sample.close();
    await stream.add(timestamp, turned({ data: rgba, width: w, height: h }, rotation, flip));
    if (++count % 10 === 0) job.tell({ kind: "progress", seconds: timestamp, framesPerSecond: (1000 * count) / (performance.now() - started) });
  }
  job.check();
  await stream.end();
  job.tell({ kind: "done", frames: count, framesPerSecond: (1000 * count) / (performance.now() - started) });
}

async function picture(pixels: ImageData, job: Job): Promise<void> {
  const { network } = await loaded;
  job.check();
  const stream = new Stream(network, 1, null, job.map);
  await stream.add(0, pixels);
  await stream.end();
  job.tell({ kind: "done", frames: 1, framesPerSecond: 0 });
}

async function cameraFrame(pixels: ImageData, seconds: number, job: Job): Promise<void> {
  job.check();
  await camera!.add(seconds, pixels);
  job.tell({ kind: "next" });
}

/** The network on the wished-for engine; the one before is closed. */
async function open(base: string, wish: Engine, job: Job): Promise<void> {
  const before = loaded;
  loaded = Promise.resolve(before).catch(() => undefined).then(async (last) => {
    await last?.network.close().catch(() => undefined); // of a graphics card that is gone
    return load(base, wish);
  });
  try {
    const { engine, name, reason } = await loaded;
    postMessage({ kind: "engine", engine, name, reason });
    job.tell({ kind: "ready" });
  } catch (error) {
    postMessage({ kind: "engine", engine: "none", name: "nothing", reason: (error as Error).message });
    job.tell({ kind: "failed", message: (error as Error).message });
  }
}

async function work(data: any, job: Job): Promise<void> {
  if (data.kind === "load") return open((base = data.base), data.wish, job);
  job.check();
  if (data.kind === "video") {
    const input = new Input({ source: new BlobSource(data.file), formats: ALL_FORMATS });
    await video(input, job).finally(() => input.dispose());
  } else if (data.kind === "picture") await picture(data.pixels, job);
  else if (data.kind === "frame") await cameraFrame(data.pixels, data.seconds, job);
  else if (data.kind === "camera") {
    camera = new Stream((await loaded).network, 10, null, job.map);
    job.tell({ kind: "next" });
  }
}

/** WebGPU stopped while it was at work (a driver that was reset, a card that went to sleep): the job begins again with WASM. */
async function workAgain(data: any, job: Job, reason: string): Promise<void> {
  job.tell({ kind: "again", reason });
  await open(base, "wasm", job);
  await work(data.kind === "frame" ? { kind: "camera" } : data, job);
}

async function workOrTell(data: any, job: Job): Promise<void> {
  try {
    await work(data, job).catch(async (error) => {
      const lost = error instanceof EngineError && !job.over && (await loaded).engine === "webgpu";
      return lost ? workAgain(data, job, error.message) : Promise.reject(error);
    });
  } catch (error) {
    job.tell({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  }
}

onmessage = ({ data }) => {
  const job = new Job(data.job);
  if (data.kind === "begin") current = data.job;
  else turn = turn.then(() => workOrTell(data, job));
};
