import { expect, test } from "vitest";
import { mapAt, moved, peak, peaksOf, share, type SeenMap } from "../src/attention";
import { brightest, colours, heat } from "../src/colours";

const seen = (map: number[], seconds = 0): SeenMap => ({ index: 0, seconds, map: Uint16Array.from(map), width: 2, height: 2, faces: [] });

test("shares, movement and peaks", () => {
  expect(share(seen([10, 30, 0, 0]), [0.5, 0, 1, 1])).toBeCloseTo(0.75);
  expect(moved(seen([9, 0, 0, 0]), seen([0, 0, 0, 5]))).toBe(1);
  expect(moved(seen([9, 0, 0, 9]), seen([3, 0, 0, 3]))).toBeCloseTo(0);
  expect(peak(seen([0, 0, 65535, 0]))).toEqual({ x: 0.25, y: 0.75, height: 1 });
  expect(peaksOf([0, 5, 4, 0, 0, 3, 0], 2, 8)).toEqual([1, 5]);
});

test("the map for a time is the last before it", () => {
  const maps = [seen([1, 0, 0, 0], 0), seen([2, 0, 0, 0], 0.08), seen([3, 0, 0, 0], 0.16)];
  expect(mapAt(maps, 0.1)).toBe(maps[1]);
  expect(mapAt(maps, 9)).toBe(maps[2]);
  expect(mapAt(maps, -1)).toBe(maps[0]);
  expect(mapAt([], 1)).toBeUndefined();
});

test("dim maps are seen: colours follow the maps' peaks", () => {
  const dim = Uint16Array.from([0, 1000, 500, 0]);
  const most = brightest(0, dim);
  expect(most).toBe(1000);
  expect(brightest(2000, dim)).toBeCloseTo(1900);
  expect(brightest(500, dim)).toBe(1000);
  const pixels = heat(dim, colours("inferno"), 0.5, most);
  expect([...pixels.subarray(4, 8)]).toEqual([0xfc, 0xff, 0xa4, 128]);
  expect([pixels[3], pixels[11]]).toEqual([0, 76]); // 255 × 0.5 × (128 / 255) ^ 0.75
});
