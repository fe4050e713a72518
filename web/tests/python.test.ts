// The page computes what the Python engine computes; python.json holds numbers of diffsal's own functions (tests/web/values.py).
import { expect, test } from "vitest";
import { close, tone } from "./close";
import expected from "./python.json";
import { brightness, finishMap, movingAlone, Synchrony, type Finish } from "../src/finish";
import { grid, resize, shrinkPicture, turned } from "../src/grid";
import { frameNoise } from "../src/noise";
import { Smoothing } from "../src/smoothing";
import { MelTrack, Resampler } from "../src/sound";
import { convertYuv } from "../src/yuv";

test("noise is each frame's own", () => {
  const noise = frameNoise(224 * 384, 0, 7);
  close(noise.subarray(0, 16), expected.noise.first, 2e-6);
  close(noise.subarray(-4), expected.noise.last, 2e-6);
});

test("planes become the colours that FFmpeg makes of them", () => {
  const planes = Uint8Array.from({ length: 64 * 6 }, (_, i) => (i * 29) % 256);
  const layout = [0, 256, 320].map((offset) => ({ offset, stride: offset ? 32 : 64 }));
  for (const [n, wanted] of expected.rgb.entries()) {
    const rgba = new Uint8ClampedArray(64 * 4 * 4);
    convertYuv(planes, layout, false, 64, 4, n < 2, n % 2 === 1, rgba);
    const pixels = Array.from({ length: 256 }, (_, i) => i).filter((i) => (i % 64) % 7 === 0);
    expect(pixels.flatMap((i) => [...rgba.subarray(4 * i, 4 * i + 3)])).toEqual(wanted);
  }
});

test("resampling in pieces", () => {
  const wave = Float32Array.from({ length: 4410 }, (_, t) =>
    0.3 * Math.sin((t * 2 * Math.PI * 440) / 44100) + 0.1 * Math.sin((t * 2 * Math.PI * 3000) / 44100));
  const resampler = new Resampler(44100);
  const found: number[] = [];
  for (let at = 0; at < wave.length; at += 1000) found.push(...resampler.push(wave.subarray(at, at + 1000)));
  found.push(...resampler.end());
  expect(found.length).toBe(1600);
  close(found.slice(400, 420), expected.resampled, 1e-5);
});

test("log-mel", () => {
  const mel = new MelTrack(tone(1), 0).centred(0.1 + 400 / 32000, 1);
  close(mel.subarray(0, 8), expected.mel, 2e-3);
});

test("pictures shrink as OpenCV shrinks them", () => {
  const rgba = new Uint8Array(12 * 20 * 4);
  for (let i = 0; i < 240; i++) [0, 5, 9].forEach((add, c) => (rgba[i * 4 + c] = Math.min(255, ((i * 37) % 251) + add)));
  const sizes = [[8, 5], [13, 19], [10, 6], [5, 3]];
  for (const [n, [width, height]] of sizes.entries()) {
    close(shrinkPicture({ data: rgba, width: 20, height: 12 }, width, height), expected.shrunk[n], n > 1 ? 0.01 : 1.01);
  }
});

const frames = [0, 1, 2].map((k) => Uint8Array.from({ length: 24 * 32 * 3 }, (_, i) => (i * (7 + k)) % 253));
const bright = frames.map((f) => brightness(f, 32, 24, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]));

test("brightness, motion and the finished map", () => {
  close(bright[1].values, expected.brightness, 1e-4);
  const moving = movingAlone(bright.map((b) => ({ ...b, values: b.values.map((v) => v * 0.005) })));
  close(moving.values, expected.moving, 1e-4);
  const raw = grid(8, 6, Float32Array.from({ length: 48 }, (_, i) => i / 60 + 0.05));
  const centre = [[-3, -1, -2], [-1, 0, -1.5]];
  const gains = { motion_gain: 1.25, sound_gain: 0.5, speaker_gain: 0.25, centre_gain: 0.45 };
  const finish = { exponent: 1.1, ...gains, centre, past_seconds: 0, future_seconds: 0 };
  close(finishMap(raw, finish, moving, bright[0], bright[2]).values, expected.finished, 1e-4);
});

test("maps are means of those around them in time", () => {
  const found: [number, ...number[]][] = [];
  const finish = { past_seconds: 0.3, future_seconds: 0.2 } as Finish;
  const smoothing = new Smoothing(finish, 15, ({ index, map }) => found.push([index, ...map.values]));
  for (let k = 0; k < 9; k++) {
    smoothing.add({ index: 2 * k, seconds: 0, faces: [], map: grid(2, 1, Float32Array.from([(k * k) % 7, k])) });
  }
  expect(found.length).toBe(7); // the others wait for what comes after them
  smoothing.end();
  expect(found.map(([index]) => index)).toEqual([0, 2, 4, 6, 8, 10, 12, 14, 16]);
  close(found.flatMap(([, ...values]) => values), expected.smooth.flat(), 1e-5);
});

test("what moves with the sound", () => {
  const synchrony = new Synchrony(4, 8);
  for (let k = 0; k < 12; k++) {
    const loud = (5 * k) % 7;
    synchrony.add(grid(8, 6, Float32Array.from({ length: 48 }, (_, i) => 0.02 * loud * Math.sin(i * ((k % 4) + 1)))), loud);
  }
  close(synchrony.at(9).values, expected.synchrony, 1e-4);
});

test("pictures are turned clockwise, then mirrored", () => {
  const rows = (degrees: number, isFlipped: boolean) => {
    const data = new Uint8ClampedArray(Uint32Array.from([1, 2, 3, 4, 5, 6]).buffer); // two rows of three
    const found = turned({ data, width: 3, height: 2 }, degrees, isFlipped);
    const pixels = [...new Uint32Array(found.data.buffer)];
    return Array.from({ length: found.height }, (_, y) => pixels.slice(y * found.width, (y + 1) * found.width).join(" "));
  };
  expect(rows(0, false)).toEqual(["1 2 3", "4 5 6"]);
  expect(rows(90, false)).toEqual(["4 1", "5 2", "6 3"]);
  expect(rows(180, false)).toEqual(["6 5 4", "3 2 1"]);
  expect(rows(270, false)).toEqual(["3 6", "2 5", "1 4"]);
  expect(rows(90, true)).toEqual(["1 4", "2 5", "3 6"]);
});

test("a grid keeps its mean when it shrinks by a whole number", () => {
  const found = resize(grid(4, 2, Float32Array.from([1, 3, 5, 7, 1, 3, 5, 7])), 2, 1);
  expect([...found.values]).toEqual([2, 6]);
});
