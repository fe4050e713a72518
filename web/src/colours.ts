// Colour maps: a few anchors each, linear between them (from matplotlib's inferno, viridis, cividis and turbo).

const ANCHORS: Record<string, string[]> = {
  inferno: ["000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d", "fcffa4"],
  viridis: ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"],
  cividis: ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"],
  turbo: ["30123b", "4662d7", "36aaf9", "1ae4b6", "72fe5e", "c7ef34", "faba39", "f66b19", "cb2a04", "7a0403"],
};
export const COLOUR_MAPS = Object.keys(ANCHORS);

/** 256 RGB colours. */
export function colours(name: string): Uint8Array {
  const anchors = ANCHORS[name].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const table = new Uint8Array(256 * 3);
  for (let v = 0; v < 256; v++) {
    const at = (v / 255) * (anchors.length - 1);
    const first = Math.min(Math.floor(at), anchors.length - 2);
    for (let c = 0; c < 3; c++) {
      table[v * 3 + c] = Math.round(anchors[first][c] + (at - first) * (anchors[first + 1][c] - anchors[first][c]));
    }
  }
  return table;
}

/** The highest value that colours stand for, which follows the maps' own; as `diffsal predict -o` does. */
export function brightest(before: number, map: Uint16Array): number {
  const highest = map.reduce((a, b) => Math.max(a, b), 1);
  return before ? Math.max(0.9 * before + 0.1 * highest, highest) : highest;
}

/** A map as RGBA pixels; each is the more opaque the higher its value, and `most` has the brightest colour. */
export function heat(map: Uint16Array, table: Uint8Array, opacity: number, most: number): Uint8ClampedArray<ArrayBuffer> {
  const pixels = new Uint8ClampedArray(map.length * 4);
  const alphas = Uint8Array.from({ length: 256 }, (_, v) => Math.round(255 * opacity * (v / 255) ** 0.75));
  for (let i = 0; i < map.length; i++) {
    const level = Math.min(255, Math.round((255 * map[i]) / most));
    for (let c = 0; c < 3; c++) pixels[i * 4 + c] = table[level * 3 + c];
    pixels[i * 4 + 3] = alphas[level];
  }
  return pixels;
}
