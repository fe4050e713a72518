// Grids of numbers: resizing as OpenCV does it, and means over boxes.

export interface Grid {
  values: Float32Array;
  width: number;
  height: number;
}

/** RGBA bytes (height, width, 4). */
export interface Picture {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

export function grid(width: number, height: number, values = new Float32Array(width * height)): Grid {
  return { values, width, height };
}

interface Taps {
  first: Int32Array;
  weights: Float32Array[];
}

/** What each of `to` outputs takes of `from` inputs: INTER_AREA where it shrinks, INTER_LINEAR where it grows. */
function taps(from: number, to: number): Taps {
  const scale = from / to;
  const result: Taps = { first: new Int32Array(to), weights: [] };
  for (let i = 0; i < to; i++) {
    if (scale > 1) {
      const start = i * scale;
      const end = Math.min(start + scale, from);
      const first = Math.floor(start + 1e-6);
      const last = Math.min(from, Math.ceil(end - 1e-6));
      const weights = new Float32Array(last - first);
      for (let k = first; k < last; k++) weights[k - first] = (Math.min(k + 1, end) - Math.max(k, start)) / scale;
      result.first[i] = first;
      result.weights.push(weights);
    } else {
      const at = Math.min(Math.max((i + 0.5) * scale - 0.5, 0), from - 1);
      const first = Math.min(Math.floor(at), Math.max(0, from - 2));
      const share = from > 1 ? at - first : 0;
      result.first[i] = first;
      result.weights.push(new Float32Array(from > 1 ? [1 - share, share] : [1]));
    }
  }
  return result;
}

/** What INTER_AREA takes along each side of a picture of which one side grows: two neighbours, but not those of INTER_LINEAR. */
function stretchedTaps(from: number, to: number): Taps {
  const result: Taps = { first: new Int32Array(to), weights: [] };
  for (let i = 0; i < to; i++) {
    const first = Math.min(Math.floor((i * from) / to), from - 1);
    const share = first === from - 1 ? 0 : Math.max(0, i + 1 - ((first + 1) * to) / from) % 1;
    result.first[i] = first;
    result.weights.push(new Float32Array(share ? [1 - share, share] : [1]));
  }
  return result;
}

/** To the nearest whole number, halves to even: Python's. */
export function roundEven(value: number): number {
  const near = Math.round(value);
  return near - value === 0.5 && near % 2 ? near - 1 : near;
}

const kept = new Map<string, Taps>();

function keptTaps(from: number, to: number, isStretched = false): Taps {
  const key = `${from}>${to} ${isStretched}`;
  let found = kept.get(key);
  if (!found) kept.set(key, (found = (isStretched ? stretchedTaps : taps)(from, to)));
  return found;
}

/** A picture at another size by INTER_AREA, as RGB bytes (height, width, 3). */
export function shrinkPicture({ data, width, height }: Picture, toWidth: number, toHeight: number): Uint8Array {
  const isStretched = toWidth > width || toHeight > height;
  const columns = keptTaps(width, toWidth, isStretched);
  const rows = keptTaps(height, toHeight, isStretched);
  const wide = new Float32Array(toWidth * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < toWidth; x++) {
      let r = 0, g = 0, b = 0;
      const weights = columns.weights[x];
      let at = (y * width + columns.first[x]) * 4;
      for (let k = 0; k < weights.length; k++, at += 4) {
        r += weights[k] * data[at];
        g += weights[k] * data[at + 1];
        b += weights[k] * data[at + 2];
      }
      const to = (y * toWidth + x) * 3;
      wide[to] = r;
      wide[to + 1] = g;
      wide[to + 2] = b;
    }
  }
  const rgb = new Uint8ClampedArray(toWidth * toHeight * 3); // rounds halves to even, as OpenCV does but for means of 2 × 2
  const isHalved = width === 2 * toWidth && height === 2 * toHeight;
  const row = toWidth * 3;
  for (let y = 0; y < toHeight; y++) {
    const weights = rows.weights[y];
    for (let x = 0; x < row; x++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * wide[(rows.first[y] + k) * row + x];
      rgb[y * row + x] = isHalved ? Math.round(sum) : sum;
    }
  }
  return new Uint8Array(rgb.buffer);
}

/** `from` at another size. */
export function resize(from: Grid, width: number, height: number): Grid {
  if (from.width === width && from.height === height) return from;
  const columns = keptTaps(from.width, width);
  const rows = keptTaps(from.height, height);
  const wide = new Float32Array(width * from.height);
  for (let y = 0; y < from.height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      const weights = columns.weights[x];
      for (let k = 0; k < weights.length; k++) sum += weights[k] * from.values[y * from.width + columns.first[x] + k];
      wide[y * width + x] = sum;
    }
  }
  const to = grid(width, height);
  for (let y = 0; y < height; y++) {
    const weights = rows.weights[y];
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * wide[(rows.first[y] + k) * width + x];
      to.values[y * width + x] = sum;
    }
  }
  return to;
}

/** The mean of the 5 × 5 values around each, of those that lie in the picture. */
export function boxMean(from: Grid): Grid {
  const { width, height } = from;
  const rows = grid(width, height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let k = Math.max(0, x - 2); k <= Math.min(width - 1, x + 2); k++) sum += from.values[y * width + k];
      rows.values[y * width + x] = sum / (Math.min(width - 1, x + 2) - Math.max(0, x - 2) + 1);
    }
  }
  const to = grid(width, height);
  for (let y = 0; y < height; y++) {
    const first = Math.max(0, y - 2);
    const last = Math.min(height - 1, y + 2);
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let k = first; k <= last; k++) sum += rows.values[k * width + x];
      to.values[y * width + x] = sum / (last - first + 1);
    }
  }
  return to;
}

/** A picture turned clockwise by a multiple of 90 degrees, and then mirrored left and right where it is flipped. */
export function turned(picture: Picture, degrees: number, isFlipped: boolean): Picture {
  if (!degrees && !isFlipped) return picture;
  const [width, height] = degrees % 180 ? [picture.height, picture.width] : [picture.width, picture.height];
  const from = new Uint32Array(picture.data.buffer);
  const to = new Uint32Array(from.length);
  const [downX, downY] = [degrees === 90 || degrees === 180, degrees >= 180]; // whether a side is read from its end
  for (let y = 0, i = 0; y < picture.height; y++) {
    for (let x = 0; x < picture.width; x++, i++) {
      const [u, v] = degrees % 180 ? [y, x] : [x, y];
      to[(downY ? height - 1 - v : v) * width + (downX !== isFlipped ? width - 1 - u : u)] = from[i];
    }
  }
  return { data: new Uint8ClampedArray(to.buffer), width, height };
}
