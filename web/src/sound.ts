// Sound → log-mel windows: diffsal/media/mel.py, for YAMNet.

export const SAMPLE_RATE = 16_000;
export const FRAME = 400; // samples: 25 ms
export const HOP = 160; // 10 ms
export const FFT = 512;
const BANDS = 64;
const OFFSET = 0.001;
export const PATCH_FRAMES = 96;
const LOUDNESS_FRAMES = 8;

function bessel0(x: number): number {
  let sum = 1, term = 1;
  for (let k = 1; k < 200 && term > sum * 1e-17; k++) sum += term *= (x / 2 / k) ** 2;
  return sum;
}

function gcd(a: number, b: number): number {
  return b ? gcd(b, a % b) : a;
}

/** A change of rate as a stream: a windowed sinc, as the Python engine's. */
export class Resampler {
  private readonly up: number;
  private readonly down: number;
  private readonly before: number;
  private readonly kernels: Float32Array[] = [];
  private pending: Float32Array;
  private first: number; // index of pending[0] in the input
  private written = 0;
  private read = 0;

  constructor(rate: number, to = SAMPLE_RATE) {
    const divisor = gcd(rate, to);
    this.up = to / divisor;
    this.down = rate / divisor;
    const { up, down } = this;
    const zeros = 50, beta = 12.9846, rollOff = 0.917347;
    const scale = Math.min(1, up / down);
    const half = Math.ceil((zeros * up) / scale);
    this.before = Math.floor(half / up) + 1;
    const filter = (k: number) => {
      const crossing = ((k - half) * scale) / up;
      const x = rollOff * crossing * Math.PI;
      const sinc = x === 0 ? 1 : Math.sin(x) / x;
      return scale * rollOff * sinc * bessel0(beta * Math.sqrt(Math.max(0, 1 - (crossing / zeros) ** 2))) / bessel0(beta);
    };
    for (let phase = 0; phase < up && rate !== to; phase++) {
      const kernel = new Float32Array(2 * this.before + 2);
      for (let j = 0; j < kernel.length; j++) {
        const offset = ((phase * down) % up) + up * (this.before - j) + half;
        if (offset >= 0 && offset <= 2 * half) kernel[j] = filter(offset);
      }
      this.kernels.push(kernel);
    }
    this.first = -this.before;
    this.pending = new Float32Array(this.before);
  }

  push(samples: Float32Array): Float32Array {
    this.read += samples.length;
    if (!this.kernels.length) return samples;
    const joined = new Float32Array(this.pending.length + samples.length);
    joined.set(this.pending);
    joined.set(samples, this.pending.length);
    this.pending = joined;
    return this.drain(Infinity);
  }

  /** What is left, as if silence followed. */
  end(): Float32Array {
    if (!this.kernels.length) return new Float32Array(0);
    const total = Math.floor((this.read * this.up) / this.down);
    const joined = new Float32Array(this.pending.length + this.kernels[0].length + this.down);
    joined.set(this.pending);
    this.pending = joined;
    return this.drain(total);
  }

  private drain(total: number): Float32Array {
    const { up, down, before, kernels } = this;
    const length = kernels[0].length;
    const output: number[] = [];
    while (this.written < total) {
      const start = Math.floor((this.written * down) / up) - before - this.first;
      if (start + length > this.pending.length) break;
      const kernel = kernels[this.written % up];
      let sum = 0;
      for (let j = 0; j < length; j++) sum += kernel[j] * this.pending[start + j];
      output.push(sum);
      this.written++;
    }
    const used = Math.max(0, Math.min(this.pending.length, Math.floor((this.written * down) / up) - before - this.first));
    this.pending = this.pending.slice(used);
    this.first += used;
    return Float32Array.from(output);
  }
}

const hann = Float32Array.from({ length: FRAME }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / FRAME));

/** Triangles on the mel scale: [bin][band]. */
const filters: Float32Array[] = (() => {
  const mel = (hertz: number) => 1127 * Math.log1p(hertz / 700);
  const low = mel(125), high = mel(7500);
  const edge = (i: number) => low + ((high - low) * i) / (BANDS + 1);
  return Array.from({ length: FFT / 2 + 1 }, (_, k) => {
    const bin = mel((k * SAMPLE_RATE) / FFT);
    return Float32Array.from({ length: BANDS }, (_, b) => Math.max(0, Math.min(
      (bin - edge(b)) / (edge(b + 1) - edge(b)), (edge(b + 2) - bin) / (edge(b + 2) - edge(b + 1)))));
  });
})();

/** In place; the length is a power of 2. */
export function fft(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    for (let k = 0; k < size / 2; k++) {
      const c = Math.cos((-2 * Math.PI * k) / size), s = Math.sin((-2 * Math.PI * k) / size);
      for (let i = k; i < n; i += size) {
        const j = i + size / 2;
        const x = re[j] * c - im[j] * s, y = re[j] * s + im[j] * c;
        re[j] = re[i] - x;
        im[j] = im[i] - y;
        re[i] += x;
        im[i] += y;
      }
    }
  }
}

/** A track at 16 kHz whose first sample is at `startSeconds` on the video's clock. */
export interface Sound {
  samples: Int16Array;
  startSeconds: number;
}

/** A track's log-mel windows. */
export class MelTrack implements Sound {
  private rows = new Map<number, Float32Array>();

  constructor(readonly samples: Int16Array, readonly startSeconds: number) {}

  private row(index: number): Float32Array {
    const found = this.rows.get(index);
    if (found) return found;
    const re = new Float64Array(FFT), im = new Float64Array(FFT);
    for (let i = 0; i < FRAME; i++) re[i] = ((this.samples[index * HOP + i] ?? 0) / 32768) * hann[i];
    fft(re, im);
    const row = new Float32Array(BANDS);
    for (let k = 0; k <= FFT / 2; k++) {
      const magnitude = Math.hypot(re[k], im[k]);
      for (let b = 0; b < BANDS; b++) row[b] += magnitude * filters[k][b];
    }
    for (let b = 0; b < BANDS; b++) row[b] = Math.log(row[b] + OFFSET);
    this.rows.set(index, row);
    if (this.rows.size > 2048) this.rows.delete(this.rows.keys().next().value!);
    return row;
  }

  /** `frames` spectrogram rows whose middle is nearest to `seconds`. */
  centred(seconds: number, frames = PATCH_FRAMES): Float32Array {
    const extent = (frames - 1) * HOP + FRAME;
    const first = Math.floor(((seconds - this.startSeconds) * SAMPLE_RATE - extent / 2) / HOP + 0.5);
    const mel = new Float32Array(frames * BANDS);
    for (let f = 0; f < frames; f++) mel.set(this.row(first + f), f * BANDS);
    return mel;
  }

  loudness(seconds: number): number {
    const mel = this.centred(seconds, LOUDNESS_FRAMES);
    return mel.reduce((a, b) => a + b, 0) / mel.length;
  }
}
