// What is done to a map once, after the last step: diffsal/prediction/finish.py and the sound prior of hearing.py.

import { boxMean, grid, resize, type Grid } from "./grid";

export interface Finish {
  exponent: number;
  motion_gain: number;
  sound_gain: number;
  speaker_gain: number;
  past_seconds: number;
  future_seconds: number;
  centre_gain: number;
  centre: number[][] | null;
}

const NOISE_CHANGE = 0.01;
const STILL_BELOW = 0.9;
const BRIGHTNESS_STRIDE = 4;

/** The mean of the normalised channels of RGB bytes, over blocks of 4 × 4. */
export function brightness(rgb: Uint8Array, width: number, height: number, mean: number[], std: number[]): Grid {
  const to = grid(width / BRIGHTNESS_STRIDE, height / BRIGHTNESS_STRIDE);
  const scale = std.map((s) => 1 / (s * 255 * 16 * 3));
  const offset = mean.reduce((sum, m, c) => sum + m / std[c], 0) / 3;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * 3;
      to.values[(y >> 2) * to.width + (x >> 2)] += rgb[at] * scale[0] + rgb[at + 1] * scale[1] + rgb[at + 2] * scale[2];
    }
  }
  for (let i = 0; i < to.values.length; i++) to.values[i] -= offset;
  return to;
}

function energy(change: Grid): Grid {
  const smooth = boxMean(boxMean(change));
  return { ...smooth, values: smooth.values.map((v) => Math.log1p(v / NOISE_CHANGE)) };
}

function difference(a: Grid, b: Grid): Grid {
  return { ...a, values: a.values.map((v, i) => Math.abs(v - b.values[i])) };
}

/** What moves in a picture that is otherwise still, of the brightness of a window's frames. */
export function movingAlone(frames: Grid[]): Grid {
  const change = grid(frames[0].width, frames[0].height);
  for (let f = 1; f < frames.length; f++) {
    for (let i = 0; i < change.values.length; i++) {
      change.values[i] += Math.abs(frames[f].values[i] - frames[f - 1].values[i]) / (frames.length - 1);
    }
  }
  const moving = energy(change);
  const mean = moving.values.reduce((a, b) => a + b, 0) / moving.values.length;
  const left = Math.max(0, 1 - mean / STILL_BELOW);
  return { ...moving, values: moving.values.map((v) => v * left) };
}

/** The map that people see, of the network's. */
export function finishMap(raw: Grid, finish: Finish, motion: Grid | null, sound: Grid | null, speaker: Grid | null): Grid {
  const { width, height } = raw;
  let y = Float32Array.from(raw.values);
  if (finish.centre_gain && finish.centre) {
    const rows = finish.centre;
    const centre = resize(grid(rows[0].length, rows.length, Float32Array.from(rows.flat())), width, height).values;
    y = y.map((v, i) => {
      const odds = v * Math.exp(finish.centre_gain * centre[i]);
      return odds / (1 - v + odds);
    });
  }
  if (finish.exponent !== 1) y = y.map((v) => v ** finish.exponent);
  const drawn = new Float32Array(y.length);
  let weighed = false;
  const priors = [[finish.motion_gain, motion], [finish.sound_gain, sound], [finish.speaker_gain, speaker]] as const;
  for (const [gain, prior] of priors) {
    if (!gain || !prior) continue;
    weighed = true;
    const large = resize(prior, width, height).values;
    for (let i = 0; i < drawn.length; i++) drawn[i] += gain * large[i];
  }
  if (weighed) {
    const highest = drawn.reduce((a, b) => Math.max(a, b), -Infinity);
    const peak = y.reduce((a, b) => Math.max(a, b), 0);
    y = y.map((v, i) => v * Math.exp(drawn[i] - highest));
    const left = peak / Math.max(1e-9, y.reduce((a, b) => Math.max(a, b), 0));
    y = y.map((v) => v * left);
  }
  return grid(width, height, y);
}

/** Where the picture changes with the sound's loudness, over the last seconds, as a stream. */
export class Synchrony {
  private readonly history: number;
  private readonly trusted: number;
  private readonly kept: number;
  private changes: { change: Grid; loudness: number }[] = [];
  private count = 0;
  private before: Grid | null = null;

  constructor(frameRate: number, keptFrames: number) {
    this.history = Math.max(2, Math.round(5 * frameRate));
    this.trusted = Math.max(1, Math.round(1.2 * frameRate));
    this.kept = this.history + keptFrames;
  }

  add(frame: Grid, loudness: number): void {
    const small = resize(frame, frame.width / 2, frame.height / 2);
    const change = this.before ? energy(difference(small, this.before)) : grid(small.width, small.height);
    this.changes.push({ change, loudness });
    if (this.changes.length > this.kept) this.changes.shift();
    this.before = small;
    this.count++;
  }

  /** The correlation's positive part over what came before the end of the frame that was the `frame`-th added. */
  at(frame: number): Grid {
    const stop = Math.min(frame + 1, this.count);
    const start = Math.max(1, stop - this.history);
    const { width, height } = this.before!;
    const together = grid(width, height);
    if (stop - start < 2) return together;
    const shift = this.changes.length - this.count;
    const rows = this.changes.slice(Math.max(0, start + shift), stop + shift);
    const n = rows.length;
    const mean = rows.reduce((sum, r) => sum + r.loudness, 0) / n;
    const spread = Math.sqrt(rows.reduce((sum, r) => sum + (r.loudness - mean) ** 2, 0) / n) + 0.1;
    const size = width * height;
    const sums = new Float64Array(size);
    const squares = new Float64Array(size);
    const products = new Float64Array(size);
    for (const { change, loudness } of rows) {
      const weight = (loudness - mean) / spread;
      for (let i = 0; i < size; i++) {
        const v = change.values[i];
        sums[i] += v;
        squares[i] += v * v;
        products[i] += v * weight;
      }
    }
    const trust = Math.min(1, n / this.trusted);
    for (let i = 0; i < size; i++) {
      const deviation = Math.sqrt(Math.max(0, squares[i] / n - (sums[i] / n) ** 2));
      together.values[i] = Math.max(0, products[i] / n / (deviation + 0.4)) * trust;
    }
    return together;
  }
}
