// Whose face speaks: LR-ASD on every face of a stream and its sound, and its map. diffsal/prediction/speakers.py.

import { detectFaces, type Box } from "./faces";
import type { Graph, Graphs } from "./graphs";
import { grid, roundEven, type Grid, type Picture } from "./grid";
import { COEFFICIENTS, mfccRows, ROWS_PER_SECOND } from "./mfcc";
import { SAMPLE_RATE, type Sound } from "./sound";
import { CROP_SIDE, cropFace, Cuts, DETECT_EVERY, FaceTracks, MOMENTS_PER_SECOND, type FaceTrack } from "./tracks";

const SEEN_AFTER = 9; // moments after one that the face encoder needs to see for its features: its reach in time
const PIECE_MOMENTS = 100; // that LR-ASD decides from: the last 4 s
const LEAST_MOMENTS = 8; // of features from which on a face has a score
const MEAN_MOMENTS = 12; // whose scores' mean counts: 0.5 s
const ROWS_PER_MOMENT = ROWS_PER_SECOND / MOMENTS_PER_SECOND; // 4
const SOUND_BLOCK = 50; // moments of sound that are encoded together
const SOUND_CONTEXT = 6; // moments on each side that the sound encoder's reach needs
const FEATURES = 128;
const SILENT = 3e-4; // root mean square of full scale below which nothing is heard: -70 dB
const SILENT_SECONDS = [-0.5, 1.0]; // around a moment, where all must be silent
const LONGEST_FRAME_SECONDS = 1; // a frame that stands longer ends the shot: what happened meanwhile is not known
const KEPT_FRAMES = 64; // for which what was found can be asked for
const MAP_SIZE = { width: 96, height: 56 };
const FACE_SPREAD = 0.75; // standard deviation of a face's Gaussian, in its larger sides

export interface SpeakingFace extends Box {
  track: number;
  speaking: number | null; // how surely it speaks, 0 to 1; null where too little was seen
}

interface Frame {
  seconds: number;
  picture: Picture;
}

/** What LR-ASD has seen of one track. */
interface Seen {
  states: Float32Array[][]; // what each convolution over time saw last
  first: number; // moment of its first crop
  crops: Float32Array[]; // that wait
  features: Float32Array[]; // the last
  encoded: number; // crops that have gone through the encoder
  score: number | null;
}

function joined(rows: Float32Array[]): Float32Array {
  const all = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, i) => all.set(row, i * row.length));
  return all;
}

/** The stream: read each frame in order, then ask for a frame's faces. Memory does not grow. */
export class Speakers {
  private readonly tracks = new FaceTracks();
  private readonly cuts = new Cuts();
  private readonly heard: SoundFeatures;
  private readonly kept: number;
  private seen = new Map<FaceTrack, Seen>();
  private known: { moment: number; faces: SpeakingFace[] }[] = [];
  private moment = 0; // the next one
  private isNewShot = true;
  private before: Frame | null = null;

  constructor(private readonly frameRate: number, private readonly sound: Sound, private readonly graphs: Graphs) {
    this.heard = new SoundFeatures(sound, graphs);
    this.kept = KEPT_FRAMES * Math.max(1, MOMENTS_PER_SECOND / frameRate);
  }

  /** The next frame at its full size, whose bytes stay as they are until the next but one is read. */
  async read(frame: Frame): Promise<void> {
    const half = 0.5 / this.frameRate;
    const { before } = this;
    this.before = frame;
    const lastMoment = Math.ceil((frame.seconds + half) * MOMENTS_PER_SECOND - 1e-6);
    if (!before || frame.seconds - before.seconds > LONGEST_FRAME_SECONDS) {
      this.endShot();
      this.moment = Math.max(this.moment, Math.ceil((frame.seconds - half) * MOMENTS_PER_SECOND - 1e-6));
    } else if (this.moment < lastMoment && this.cuts.isFirstOfShot(frame.picture)) this.endShot();
    for (; this.moment < lastMoment; this.moment++) {
      const seconds = this.moment / MOMENTS_PER_SECOND;
      const isNearer = before && seconds - before.seconds < frame.seconds - seconds;
      await this.look(isNearer ? before.picture : frame.picture);
    }
  }

  /** The faces at the time of a frame that was read not long ago. */
  faces(seconds: number): SpeakingFace[] {
    const wanted = Math.floor(seconds * MOMENTS_PER_SECOND + 0.5);
    return this.known.filter(({ moment }) => moment <= wanted).at(-1)?.faces ?? [];
  }

  /** One moment: find or follow the faces, keep their crops, score them when enough has come together. */
  private async look(picture: Picture): Promise<void> {
    if (this.isSilent(this.moment / MOMENTS_PER_SECOND)) this.endShot();
    else {
      if (this.moment % DETECT_EVERY === 0 || this.isNewShot) {
        this.tracks.link(await detectFaces(picture, await this.graphs("yunet.onnx")));
        this.isNewShot = false;
      }
      this.tracks.hold();
      await this.crop(picture);
      if ((this.moment + 1) % DETECT_EVERY === 0) for (const seen of this.seen.values()) await this.score(seen);
    }
    const faces = this.tracks.live.map((track) => (
      { track: track.number, ...track.box, speaking: this.seen.get(track)?.score ?? null }));
    this.known.push({ moment: this.moment, faces });
    if (this.known.length > this.kept) this.known.shift();
  }

  private endShot(): void {
    this.tracks.endAll();
    this.seen.clear();
    this.isNewShot = true;
  }

  /** Whether nothing is heard around a time. */
  private isSilent(seconds: number): boolean {
    const { samples, startSeconds } = this.sound;
    const [first, last] = SILENT_SECONDS.map((offset) => roundEven((seconds + offset - startSeconds) * SAMPLE_RATE));
    let sum = 0;
    for (let i = Math.max(0, first); i < Math.min(last, samples.length); i++) sum += samples[i] ** 2;
    return Math.sqrt(sum / (last - first)) / 32768 < SILENT;
  }

  private async crop(picture: Picture): Promise<void> {
    const before = this.seen;
    this.seen = new Map();
    for (const track of this.tracks.live) {
      const seen = before.get(track) ?? newSeen(this.moment, await this.graphs("lr_asd_faces.onnx"));
      seen.crops.push(cropFace(picture, track.place));
      this.seen.set(track, seen);
    }
  }

  /** Features of the crops that wait, and the face's score from the last seconds. */
  private async score(seen: Seen): Promise<void> {
    const rows = await encodeFaces(seen, await this.graphs("lr_asd_faces.onnx"));
    const late = Math.max(0, SEEN_AFTER - seen.encoded); // what the encoder gives for moments before the first
    seen.encoded += rows.length;
    seen.features = [...seen.features, ...rows.slice(late)].slice(-PIECE_MOMENTS);
    const count = seen.features.length;
    if (count < LEAST_MOMENTS) return;
    const last = seen.first + seen.encoded - SEEN_AFTER; // one past the last moment that has features
    const sound = await this.heard.features(last - count, count);
    const decision = await this.graphs("lr_asd_decision.onnx");
    const values = (rows: Float32Array[]) => ({ data: joined(rows), dims: [count, FEATURES] });
    const { scores } = await decision.run({ faces: values(seen.features), sound: values(sound) }, ["scores"]);
    const latest = scores.slice(-MEAN_MOMENTS);
    seen.score = 1 / (1 + Math.exp(-latest.reduce((sum, v) => sum + v, 0) / latest.length));
  }
}

/** A face's beginning at a moment: nothing was seen before. */
function newSeen(first: number, encoder: Graph): Seen {
  const states: Float32Array[][] = [];
  for (const [name, shape] of Object.entries(encoder.shapes)) {
    const [, j] = /^past_(\d+)_\d+$/.exec(name) ?? [];
    if (j) (states[Number(j)] ??= []).push(new Float32Array(shape.reduce<number>((size, n) => size * Number(n), 1)));
  }
  return { states, first, crops: [], features: [], encoded: 0, score: null };
}

/** Features of the moments SEEN_AFTER before the crops that wait, at most 5, which are taken. */
async function encodeFaces(seen: Seen, encoder: Graph): Promise<Float32Array[]> {
  const count = seen.crops.length;
  const crops = new Float32Array(DETECT_EVERY * CROP_SIDE ** 2);
  crops.set(joined(seen.crops));
  const given: Parameters<Graph["run"]>[0] = { crops: { data: crops, dims: [DETECT_EVERY, CROP_SIDE, CROP_SIDE] } };
  const wanted = seen.states.map((past, j) => {
    past.forEach((data, k) => (given[`past_${j}_${k}`] = { data, dims: encoder.shapes[`past_${j}_${k}`].map(Number) }));
    const newest = Array.from({ length: count }, (_, i) => `new_${j}_${i}`);
    return newest.slice(-past.length);
  });
  const found = await encoder.run(given, ["features", ...wanted.flat()]);
  seen.states = seen.states.map((past, j) => [...past, ...wanted[j].map((name) => found[name])].slice(-past.length));
  seen.crops = [];
  return Array.from({ length: count }, (_, i) => found.features.slice(i * FEATURES, (i + 1) * FEATURES));
}

/** What LR-ASD hears at each moment, encoded in blocks when it is asked for; the last few blocks are kept. */
class SoundFeatures {
  private blocks = new Map<number, Float32Array>();

  constructor(private readonly sound: Sound, private readonly graphs: Graphs) {}

  /** Of `count` moments from `first` on. */
  async features(first: number, count: number): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    for (let moment = first; moment < first + count; moment++) {
      const number = Math.floor(moment / SOUND_BLOCK);
      const at = moment - number * SOUND_BLOCK;
      rows.push((await this.block(number)).subarray(at * FEATURES, (at + 1) * FEATURES));
    }
    return rows;
  }

  private async block(number: number): Promise<Float32Array> {
    const found = this.blocks.get(number);
    if (found) return found;
    const rows = (SOUND_BLOCK + 2 * SOUND_CONTEXT) * ROWS_PER_MOMENT;
    const data = mfccRows(this.sound, (number * SOUND_BLOCK - SOUND_CONTEXT) / MOMENTS_PER_SECOND, rows);
    const graph = await this.graphs("lr_asd_sound.onnx");
    const { features } = await graph.run({ mfcc: { data, dims: [rows, COEFFICIENTS] } }, ["features"]);
    const block = features.slice(SOUND_CONTEXT * FEATURES, (SOUND_CONTEXT + SOUND_BLOCK) * FEATURES);
    this.blocks.set(number, block);
    for (const old of this.blocks.keys()) if (old < number - PIECE_MOMENTS / SOUND_BLOCK - 1) this.blocks.delete(old);
    return block;
  }
}

/** Each face's score times a Gaussian around it, over a picture of this size in pixels; the largest counts. */
export function speakingMap(faces: SpeakingFace[], height: number, width: number): Grid {
  const map = grid(MAP_SIZE.width, MAP_SIZE.height);
  for (const face of faces) {
    const wide = FACE_SPREAD * Math.max(face.width, face.height);
    for (let row = 0, i = 0; row < map.height; row++) {
      const y = ((row + 0.5) * height) / map.height - 0.5 - face.top - face.height / 2;
      for (let column = 0; column < map.width; column++, i++) {
        const x = ((column + 0.5) * width) / map.width - 0.5 - face.left - face.width / 2;
        map.values[i] = Math.max(map.values[i], (face.speaking ?? 0) * Math.exp(-(x * x + y * y) / (2 * wide * wide)));
      }
    }
  }
  return map;
}
