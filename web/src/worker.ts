// The thread that works: reads a file's frames and sound, runs the network, and posts finished maps.

import { ALL_FORMATS, AudioSampleSink, BlobSource, Input, VideoSampleSink, type InputAudioTrack } from "mediabunny";
import { Network, Stream, type FinishedMap } from "./engine";
import { shrinkPicture } from "./grid";
import { convertYuv } from "./yuv";
import { MelTrack, Resampler, SAMPLE_RATE } from "./sound";

let network: Promise<Network>;
let camera: Stream | null = null;
let running = 0;

async function fetchBytes(url: string): Promise<Uint8Array> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function load(base: string): Promise<Network> {
  const about = await (await fetch(base + "weights.json")).json();
  const packed = await fetch(base + "ort-wasm-simd-threaded.wasm.gz");
  const stream = packed.body!.pipeThrough(new DecompressionStream("gzip"));
  const wasm = await new Response(stream).arrayBuffer();
  const ort = await import(/* @vite-ignore */ base + "ort.wasm.min.mjs");
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  const bytes = await fetchBytes(base + about.file);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice().buffer));
  const hash = [...digest].map((b) => b.toString(16).padStart(2, "0")).join("");
  if (hash !== about.sha256) throw new Error("The weights are damaged: their SHA-256 is not the expected one. Reload the page.");
  const opened = await Network.open(ort, bytes, about.config, about.finish);
  postMessage({ kind: "ready", threads: ort.env.wasm.numThreads });
  return opened;
}

function post(found: FinishedMap): void {
  const map = Uint8Array.from(found.map.values, (v) => Math.round(255 * Math.min(1, Math.max(0, v))));
  postMessage({ kind: "map", index: found.index, seconds: found.seconds, map, width: found.map.width, height: found.map.height },
    { transfer: [map.buffer] });
}

async function readSound(track: InputAudioTrack): Promise<MelTrack | null> {
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

async function video(file: File, run: number): Promise<void> {
  const opened = await network;
  const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS });
  const track = await input.getPrimaryVideoTrack();
  if (!track) throw new Error("it holds no picture");
  if (!(await track.canDecode())) throw new Error(`this browser cannot decode ${track.codec ?? "its video"}; convert it to H.264 or VP9`);
  const audio = await input.getPrimaryAudioTrack();
  const statistics = await track.computePacketStats(200);
  const duration = await input.computeDuration();
  postMessage({ kind: "opened", frameRate: statistics.averagePacketRate, duration, sound: !!audio });
  const sound = audio && (await audio.canDecode()) ? await readSound(audio) : null;
  const stream = new Stream(opened, statistics.averagePacketRate, sound, post);
  const colour = await track.getColorSpace(); // as the file says; browsers guess otherwise than FFmpeg does
  const started = performance.now();
  let count = 0;
  let rgba = new Uint8Array(0);
  for await (const sample of new VideoSampleSink(track).samples()) {
    if (run !== running) {
      sample.close();
      return;
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
    if (++count % 10 === 0) postMessage({ kind: "progress", seconds: timestamp, framesPerSecond: (1000 * count) / (performance.now() - started) });
  }
  await stream.end();
  postMessage({ kind: "done", frames: count, framesPerSecond: (1000 * count) / (performance.now() - started) });
}

async function picture(pixels: ImageData): Promise<void> {
  const opened = await network;
  const stream = new Stream(opened, 1, null, post);
  await stream.add(0, shrinkPicture(pixels.data, pixels.width, pixels.height, opened.config.width, opened.config.height));
  await stream.end();
  postMessage({ kind: "done", frames: 1, framesPerSecond: 0 });
}

onmessage = async ({ data }) => {
  try {
    if (data.kind === "load") await (network = load(data.base));
    else if (data.kind === "stop") running++;
    else if (data.kind === "video") await video(data.file, ++running);
    else if (data.kind === "picture") {
      running++;
      await picture(data.pixels);
    } else if (data.kind === "camera") {
      running++;
      camera = new Stream(await network, 10, null, post);
      postMessage({ kind: "next" });
    } else if (data.kind === "frame" && camera) {
      const { config } = await network;
      await camera.add(data.seconds, shrinkPicture(data.pixels.data, data.pixels.width, data.pixels.height, config.width, config.height));
      postMessage({ kind: "next" });
    }
  } catch (error) {
    postMessage({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  }
};
