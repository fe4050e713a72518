// The network, by ONNX Runtime Web, and one clip's way through it: frames in, finished maps out.

import type { SeenFace } from "./attention";
import type { Engine } from "./choice";
import { brightness, finishMap, movingAlone, Synchrony, type Finish } from "./finish";
import { openGraph, type Graph, type Graphs } from "./graphs";
import { grid, shrinkPicture, type Grid, type Picture } from "./grid";
import { frameNoise } from "./noise";
import { Smoothing } from "./smoothing";
import type { MelTrack } from "./sound";
import { speakingMap, Speakers, type SpeakingFace } from "./speakers";

/* eslint-disable @typescript-eslint/no-explicit-any */
type Ort = any;
type Tensor = any;

export interface Config {
  height: number;
  width: number;
  num_frames: number;
  map_stride: number;
  preprocessing: { mean: number[]; std: number[] };
}

/** A part of the network did not run: no fault of the file that it was to run on. */
export class EngineError extends Error {}

export class Network {
  private readonly opened: Record<string, Graph> = {};

  private constructor(
    readonly ort: Ort, readonly config: Config, readonly finish: Finish, private readonly parts: Record<string, any>,
    private readonly fetchGraph: (name: string) => Promise<Uint8Array>,
  ) {}

  /**
   * Of the bytes of an ONNX file that `diffsal export` wrote: its outputs are the files of its four parts. `fetchGraph` gives
   * those of the graphs that tell who speaks.
   */
  static async open(
    ort: Ort, bytes: Uint8Array, config: Config, finish: Finish, engine: Engine, fetchGraph: (name: string) => Promise<Uint8Array>,
  ): Promise<Network> {
    const outer = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    const files = await outer.run({});
    const parts: Record<string, any> = {};
    for (const name of ["frames", "window", "sound", "denoise"]) {
      // What `denoise` takes of `window` stays on the graphics card
      const place = engine === "webgpu" && name === "window" ? { preferredOutputLocation: "gpu-buffer" } : {};
      parts[name] = await ort.InferenceSession.create(files[name].data, { executionProviders: [engine], ...place });
    }
    await outer.release();
    return new Network(ort, config, finish, parts, fetchGraph);
  }

  readonly graphs: Graphs = async (name) =>
    (this.opened[name] ??= await openGraph(this.ort, await this.fetchGraph(name)));

  async close(): Promise<void> {
    for (const part of [...Object.values(this.opened), ...Object.values(this.parts)]) await part.release();
  }

  /** One map of nothing, with sound. Raises an error if a part cannot run, or if what comes is not a map. */
  async warmUp(): Promise<void> {
    const { height, width, num_frames, preprocessing } = this.config;
    const black = new Uint8Array(height * width * 3);
    const bright = brightness(black, width, height, preprocessing.mean, preprocessing.std);
    const features = await this.encodeFrame(black);
    const map = await this.draw(
      Array(num_frames / 2).fill(features), Array(num_frames).fill(bright), new Float32Array(96 * 64), frameNoise(height * width, 0, 0),
    );
    if (!map.values.every((v) => v >= 0 && v <= 1)) throw new Error("it computes values that are no map");
  }

  private async run(part: string, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    try {
      return await this.parts[part].run(feeds);
    } catch (error) {
      throw new EngineError(error instanceof Error ? error.message : String(error));
    }
  }

  async encodeFrame(rgb: Uint8Array): Promise<Tensor[]> {
    const { height, width } = this.config;
    const out = await this.run("frames", { images: new this.ort.Tensor("uint8", rgb, [1, height, width, 3]) });
    return [out.scale_0, out.scale_1, out.scale_2];
  }

  /** The raw map of one window, at its own stride. */
  async draw(frames: Tensor[][], bright: Grid[], mel: Float32Array | null, noise: Float32Array): Promise<Grid> {
    const { ort, config } = this;
    const size = bright[0].values.length;
    const all = new Float32Array(bright.length * size);
    bright.forEach((b, i) => all.set(b.values, i * size));
    const feeds: Record<string, Tensor> = {
      brightness: new ort.Tensor("float32", all, [1, bright.length, bright[0].height, bright[0].width]),
    };
    for (let s = 0; s < 3; s++) {
      const [, c, h, w] = frames[0][s].dims;
      const stacked = new Float32Array(c * frames.length * h * w);
      frames.forEach((f, t) => {
        for (let k = 0; k < c; k++) stacked.set(f[s].data.subarray(k * h * w, (k + 1) * h * w), (k * frames.length + t) * h * w);
      });
      feeds[`scale_${s}`] = new ort.Tensor("float32", stacked, [1, c, frames.length, h, w]);
    }
    const conditions = await this.run("window", feeds);
    const audio = mel
      ? (await this.run("sound", { mel: new ort.Tensor("float32", mel, [1, 1, 1, 96, 64]) })).audio
      : new ort.Tensor("float32", new Float32Array(1024), [1, 1024, 1, 1, 1]);
    const { map } = await this.run("denoise", {
      ...conditions, audio,
      x_t: new ort.Tensor("float32", noise, [1, 1, config.height, config.width]),
      t: new ort.Tensor("int64", BigInt64Array.from([999n]), [1]),
      heard: new ort.Tensor("bool", Uint8Array.from([mel ? 1 : 0]), [1]),
    });
    for (const condition of Object.values<Tensor>(conditions)) condition.dispose();
    return grid(map.dims[3], map.dims[2], Float32Array.from(map.data));
  }
}

export interface FinishedMap {
  index: number;
  seconds: number;
  map: Grid;
  faces: SeenFace[];
}

interface KeptFrame {
  index: number;
  seconds: number;
  width: number; // of the picture
  height: number;
  bright: Grid;
  features: Tensor[] | null;
  rgb: Uint8Array | null; // of the last frame, in case the clip ends there
}

/** One clip. Frames of even index go through the network where there are more than 20 a second. */
export class Stream {
  private kept: KeptFrame[] = [];
  private next = 0; // position, in the clip, of the next frame to draw
  private count = 0;
  private readonly synchrony: Synchrony | null;
  private readonly speakers: Speakers | null;
  private readonly every: number;
  private readonly smoothing: Smoothing;

  constructor(
    private readonly network: Network, frameRate: number, private readonly sound: MelTrack | null,
    emit: (map: FinishedMap) => void,
  ) {
    this.every = frameRate > 20 ? 2 : 1;
    this.smoothing = new Smoothing(network.finish, frameRate, emit);
    this.synchrony = sound && network.finish.sound_gain > 0 ? new Synchrony(frameRate, 40) : null;
    this.speakers = sound && network.finish.speaker_gain > 0 ? new Speakers(frameRate, sound, network.graphs) : null;
  }

  /** The next frame, whose bytes stay as they are until the next but one is added. */
  async add(seconds: number, picture: Picture): Promise<void> {
    const { config } = this.network;
    const { mean, std } = config.preprocessing;
    await this.speakers?.read({ seconds, picture });
    const rgb = shrinkPicture(picture, config.width, config.height);
    const bright = brightness(rgb, config.width, config.height, mean, std);
    const last = this.kept[this.kept.length - 1];
    if (last) last.rgb = null;
    const features = this.count % this.every === 0 ? await this.network.encodeFrame(rgb) : null;
    const { width, height } = picture;
    this.kept.push({ index: this.count++, seconds, width, height, bright, features, rgb });
    this.synchrony?.add(bright, this.sound!.loudness(seconds));
    await this.drawUntil(this.count - this.network.config.num_frames / 2);
    while (this.kept[0].index < this.next - this.network.config.num_frames) this.kept.shift();
  }

  /** The clip is over: its last frame repeats. */
  async end(): Promise<void> {
    const last = this.kept[this.kept.length - 1];
    if (!last) return;
    last.features ??= await this.network.encodeFrame(last.rgb!);
    await this.drawUntil(this.count - 1);
    this.smoothing.end();
  }

  private async drawUntil(index: number): Promise<void> {
    for (; this.next <= index; this.next += this.every) await this.draw(this.next);
  }

  private async draw(index: number): Promise<void> {
    const { config, finish } = this.network;
    const before = config.num_frames / 2;
    const first = this.kept[0].index;
    const at = (i: number) => this.kept[Math.min(Math.max(i, first), this.count - 1) - first];
    const window = Array.from({ length: config.num_frames }, (_, k) => at(index - before + k));
    const bright = window.map((f) => f.bright);
    const encoded = window.filter((_, k) => k % 2 === 0).map((f) => f.features!);
    const frame = at(index);
    const mel = this.sound?.centred(frame.seconds) ?? null;
    const raw = await this.network.draw(encoded, bright, mel, frameNoise(config.height * config.width, 0, index));
    const heard = this.synchrony ? this.synchrony.at(index + before - 1) : null;
    const faces = this.speakers?.faces(frame.seconds) ?? [];
    const scored = faces.filter((face) => face.speaking !== null);
    const speaker = scored.length ? speakingMap(scored, frame.height, frame.width) : null;
    const map = finishMap(raw, finish, movingAlone(bright), heard, speaker);
    this.smoothing.add({ index, seconds: frame.seconds, map, faces: faces.map((face) => inFractions(face, frame)) });
  }
}

function inFractions({ track, left, top, width, height, confidence, speaking }: SpeakingFace, picture: KeptFrame): SeenFace {
  const right = (left + width) / picture.width;
  return { track, box: [left / picture.width, top / picture.height, right, (top + height) / picture.height], confidence, speaking };
}
