// Mel-frequency cepstral coefficients, 13 every 10 ms: diffsal/media/mfcc.py.

import { roundEven } from "./grid";
import { fft, FFT, FRAME, HOP, SAMPLE_RATE, type Sound } from "./sound";

export const COEFFICIENTS = 13;
export const ROWS_PER_SECOND = SAMPLE_RATE / HOP; // 100
const FILTERS = 26;
const PRE_EMPHASIS = 0.97;
const LIFTER = 22;

/** The bins at which the triangles begin, stand highest and end. */
const edges: number[] = (() => {
  const top = 2595 * Math.log10(1 + SAMPLE_RATE / 2 / 700);
  const hertz = (i: number) => 700 * (10 ** ((top * i) / (FILTERS + 1) / 2595) - 1);
  return Array.from({ length: FILTERS + 2 }, (_, i) => Math.floor(((FFT + 1) * hertz(i)) / SAMPLE_RATE));
})();

function filter(band: number, bin: number): number {
  const [lower, centre, upper] = edges.slice(band, band + 3);
  return Math.max(0, bin < centre ? (bin - lower) / (centre - lower) : (upper - bin) / (upper - centre));
}

/** Triangles: [band][bin]. */
const filters = Array.from({ length: FILTERS }, (_, band) =>
  Float64Array.from({ length: FFT / 2 + 1 }, (_, bin) => filter(band, bin)));

/** The DCT-II's first rows, each times its lifter: [coefficient][band]. */
const transform = Array.from({ length: COEFFICIENTS }, (_, k) => {
  const scale = Math.sqrt((k ? 2 : 1) / FILTERS) * (1 + (LIFTER / 2) * Math.sin((Math.PI * k) / LIFTER));
  return Float64Array.from({ length: FILTERS }, (_, n) => scale * Math.cos((Math.PI * k * (2 * n + 1)) / (2 * FILTERS)));
});

const logarithm = (energy: number) => Math.log(Math.max(energy, Number.EPSILON));

/** The rows (rows, 13) from `startSeconds` on the video's clock on; outside the sound it is silent. */
export function mfccRows({ samples, startSeconds: soundStart }: Sound, startSeconds: number, rows: number): Float32Array {
  const first = roundEven((startSeconds - soundStart) * SAMPLE_RATE);
  const at = (i: number) => samples[i] ?? 0;
  const found = new Float32Array(rows * COEFFICIENTS);
  for (let row = 0; row < rows; row++) {
    const re = new Float64Array(FFT), im = new Float64Array(FFT);
    for (let i = 0, from = first + row * HOP; i < FRAME; i++, from++) re[i] = at(from) - PRE_EMPHASIS * at(from - 1);
    fft(re, im);
    const power = re.slice(0, FFT / 2 + 1).map((v, bin) => (v * v + im[bin] * im[bin]) / FFT);
    const bands = filters.map((triangle) => logarithm(power.reduce((sum, v, bin) => sum + v * triangle[bin], 0)));
    const cepstrum = transform.map((cosines) => bands.reduce((sum, v, n) => sum + v * cosines[n], 0));
    cepstrum[0] = logarithm(power.reduce((sum, v) => sum + v, 0));
    found.set(cepstrum, row * COEFFICIENTS);
  }
  return found;
}
