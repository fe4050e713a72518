// Where attention is, in numbers: peaks, how much moves, shares in regions. Maps are 16-bit.

export type Box = [number, number, number, number]; // left, top, right, bottom, as fractions of the picture

/** A face, where the sound tells who speaks; named as `diffsal predict --json` names it. */
export interface SeenFace {
  track: number;
  box: Box;
  confidence: number;
  speaking: number | null; // how surely it speaks, 0 to 1; null where too little was seen
}

export interface SeenMap {
  index: number;
  seconds: number;
  map: Uint16Array; // 65535 is 1
  width: number;
  height: number;
  faces: SeenFace[];
  most?: number; // what the brightest colour stands for
}

export interface Region {
  name: string;
  box: Box;
}

const total = (map: Uint16Array) => map.reduce((a, b) => a + b, 0) || 1;

/** Half the sum of absolute differences of two maps as distributions: the share of attention that moved. */
export function moved(before: SeenMap, now: SeenMap): number {
  const a = total(before.map), b = total(now.map);
  return now.map.reduce((sum, v, i) => sum + Math.abs(v / b - before.map[i] / a), 0) / 2;
}

export function share(seen: SeenMap, box: Box): number {
  const [left, top, right, bottom] = box;
  let inside = 0;
  for (let y = 0; y < seen.height; y++) {
    const v = (y + 0.5) / seen.height;
    if (v < top || v >= bottom) continue;
    for (let x = 0; x < seen.width; x++) {
      const u = (x + 0.5) / seen.width;
      if (u >= left && u < right) inside += seen.map[y * seen.width + x];
    }
  }
  return inside / total(seen.map);
}

/** The highest place, as fractions of the picture. */
export function peak(seen: SeenMap): { x: number; y: number; height: number } {
  let best = 0;
  for (let i = 1; i < seen.map.length; i++) if (seen.map[i] > seen.map[best]) best = i;
  return {
    x: ((best % seen.width) + 0.5) / seen.width,
    y: (Math.floor(best / seen.width) + 0.5) / seen.height,
    height: seen.map[best] / 65535,
  };
}

/** Of the values, which are local maxima at least `apart` places from any higher one, the highest `most`. */
export function peaksOf(values: number[], apart: number, most: number): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[b] - values[a]);
  const found: number[] = [];
  for (const i of order) {
    if (found.length === most || values[i] <= 0) break;
    if (found.every((k) => Math.abs(k - i) >= apart)) found.push(i);
  }
  return found.sort((a, b) => a - b);
}

/** The map for a time: the last at or before it, or the first. Maps are in order of time. */
export function mapAt(maps: SeenMap[], seconds: number): SeenMap | undefined {
  let low = 0, high = maps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (maps[middle].seconds <= seconds + 1e-3) low = middle + 1;
    else high = middle;
  }
  return maps[Math.max(0, low - 1)];
}
