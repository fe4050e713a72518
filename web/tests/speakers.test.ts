// Who speaks, held to the Python engine's numbers (python.json, by tests/web/values.py); the graphs are stand-ins in both.
import { expect, test } from "vitest";
import expected from "./python.json";
import { close, tone } from "./close";
import { detectFaces } from "../src/faces";
import type { Graph, Values } from "../src/graphs";
import type { Picture } from "../src/grid";
import { mfccRows } from "../src/mfcc";
import { Speakers, speakingMap } from "../src/speakers";
import { cropFace, FaceTracks } from "../src/tracks";

type Given = Record<string, Values>;
type Found = Record<string, Float32Array | number[]>;

function graph(find: (given: Given) => Found, shapes: Graph["shapes"] = {}): Graph {
  const run = async (given: Given, wanted: string[]) => {
    const found = find(given);
    return Object.fromEntries(wanted.map((name) => [name, Float32Array.from(found[name])]));
  };
  return { shapes, run, release: async () => undefined };
}

function picture(height: number, width: number, grey: (i: number) => number, add = [0, 0, 0]): Picture {
  const data = new Uint8Array(height * width * 4);
  for (let i = 0; i < height * width; i++) add.forEach((more, c) => (data[i * 4 + c] = Math.min(255, grey(i) + more)));
  return { data, width, height };
}

const noisy = (height: number, width: number) => picture(height, width, (i) => (i * 37) % 251, [0, 5, 9]);
const mean = (values: Float32Array) => values.reduce((a, b) => a + b, 0) / values.length;
const rows = (sums: number[], of: (c: number) => number) => sums.flatMap((sum) => Array.from({ length: 128 }, (_, c) => sum * of(c)));

test("MFCCs of a sound's beginning, before which it is silent", () => {
  close(mfccRows({ samples: tone(1), startSeconds: 0.5 }, 0.48, 3), expected.mfcc, 1e-4);
});

test("boxes of YuNet's numbers, without those that share too much", async () => {
  let input: Values;
  const factors = { cls: 0.9, obj: 1.7 } as Record<string, number>;
  const yunet = graph((given) => {
    const [, , height, width] = (input = given.input).dims;
    return Object.fromEntries([8, 16, 32].flatMap((stride) => ["cls", "obj", "bbox"].map((kind) => {
      const length = ((height * width) / stride ** 2) * (kind === "bbox" ? 4 : 1);
      const at = (i: number) => (kind === "bbox" ? Math.sin(i * 2.3) : 0.7 + 0.5 * Math.cos(i * factors[kind]));
      return [`${kind}_${stride}`, Array.from({ length }, (_, i) => at(i))];
    })));
  });
  const found = async (of: Picture) =>
    (await detectFaces(of, yunet)).flatMap((b) => [b.left, b.top, b.width, b.height, b.confidence]);
  close(await found(noisy(40, 50)), expected.faces.boxes, 1e-3);
  close((await found(noisy(400, 640))).slice(0, 45), expected.faces.large, 1e-3);
  expect(input!.dims.slice(1)).toEqual(expected.faces.shape);
  const [, , height, width] = input!.dims;
  const given = [0, 1, 2].flatMap((c) => [199, 200].flatMap((y) => [0, 1, 2].map((x) => input.data[(c * height + y) * width + x])));
  expect(given).toEqual(expected.faces.given);
});

test("faces are followed from detection to detection", () => {
  const tracks = new FaceTracks();
  for (const [k, live] of expected.tracks.entries()) {
    const boxes = [[10 + 6 * k, 20, 30, 40, 0.9]];
    if (k !== 2 && k !== 3) boxes.push([120 - 7 * k, 25 + k, 36, 30, 0.8]);
    if (k < 4) boxes.push([200, 10, 20, 20, 0.7]);
    if (k === 5) for (let n = 0; n < 6; n++) boxes.push([20 * n, 100, 10 + n, 12, 0.65]);
    tracks.link(boxes.map(([left, top, width, height, confidence]) => ({ left, top, width, height, confidence })));
    for (let i = 0; i < 5; i++) tracks.hold();
    expect(tracks.live.map(({ number, place }) => [number, place.x, place.y, place.half])).toEqual(live);
  }
});

test("crops inside, over the edge, of a large face, and outside", () => {
  const of = noisy(300, 400);
  for (const [n, [x, y, half]] of [[80, 60, 20], [5.5, 3, 31], [230.3, 120.6, 190], [900, 60, 20]].entries()) {
    const crop = cropFace(of, { x, y, half });
    close(crop.filter((_, i) => i % 16 === 0 && Math.floor(i / 112) % 16 === 0), expected.crops[n], 1.01);
  }
});

test("the map of who speaks", () => {
  const face = (left: number, top: number, width: number, height: number, speaking: number) =>
    ({ track: 1, left, top, width, height, confidence: 0.9, speaking });
  const map = speakingMap([face(20, 10, 20, 40, 0.8), face(140, 60, 12, 10, 0.3)], 90, 160);
  close(map.values.filter((_, i) => (i % 96) % 12 === 0 && Math.floor(i / 96) % 8 === 0), expected.speaking_map, 1e-5);
});

const twoFaces = graph(({ input }) => {
  const found: Record<string, number[]> = {};
  for (const stride of [8, 16, 32]) for (const kind of ["cls", "obj", "bbox"]) found[`${kind}_${stride}`] = Array(24).fill(0);
  for (const cell of [0, 5]) {
    found.cls_32[cell] = found.obj_32[cell] = 0.9;
    found.bbox_32.splice(4 * cell, 4, 0.3 + mean(input.data) / 255, 0.4, -0.2, 0);
  }
  return found;
});
const encoder = graph((given) => {
  const crops = [0, 1, 2, 3, 4].map((i) => mean(given.crops.data.subarray(i * 112 ** 2, (i + 1) * 112 ** 2)) / 100);
  const first = [...[0, 1, 2, 3].map((k) => given[`past_0_${k}`].data[1]), ...crops];
  const middle = crops.map((_, i) => [0, 1, 2, 3, 4].reduce((sum, k) => sum + (k + 1) * first[i + k], 0));
  const second = [...[0, 1].map((k) => given[`past_1_${k}`].data[0]), ...middle];
  const sums = crops.map((_, i) => second[i] - second[i + 1] + second[i + 2]);
  const found: Found = { features: rows(sums, Math.cos) };
  crops.forEach((grey, i) => (found[`new_0_${i}`] = [0, grey]));
  middle.forEach((value, i) => (found[`new_1_${i}`] = [value]));
  return found;
}, {
  crops: [5, 112, 112], past_0_0: [1, 2, 1, 1], past_0_1: [1, 2, 1, 1], past_0_2: [1, 2, 1, 1], past_0_3: [1, 2, 1, 1],
  past_1_0: [1, 1, 1, 1], past_1_1: [1, 1, 1, 1],
});
const soundEncoder = graph(({ mfcc: { data, dims } }) => {
  const sums = Array.from({ length: dims[0] / 4 }, (_, n) => [0, 1, 2, 3].reduce((sum, k) => sum + data[(4 * n + k) * 13], 0) / 4);
  return { features: rows(sums, Math.sin) };
});
const decision = graph(({ faces, sound }) => (
  { scores: Array.from({ length: faces.dims[0] }, (_, n) => faces.data[n * 128] / 20 + sound.data[n * 128 + 1] / 15 - n / 40) }));

test("a stream at 30 frames a second: silence, a cut, and a frame that stands too long", async () => {
  const graphs: Record<string, Graph> = {
    "yunet.onnx": twoFaces, "lr_asd_faces.onnx": encoder, "lr_asd_sound.onnx": soundEncoder, "lr_asd_decision.onnx": decision,
  };
  const samples = tone(5).fill(0, 9_600, 41_600);
  const speakers = new Speakers(30, { samples, startSeconds: 0.1 }, async (name) => graphs[name]);
  const seconds = Array.from({ length: 130 }, (_, k) => k / 30 + (k >= 120 ? 1.5 : 0));
  const found: (number | null)[][][] = [];
  for (const [k, at] of seconds.entries()) {
    await speakers.read({ seconds: at, picture: picture(60, 90, (i) => (i % 90) + (k < 100 ? 20 : 120) + (k % 7)) });
    if (k < 8 || k % 5 !== 3) continue;
    const faces = speakers.faces(seconds[k - 8]);
    found.push(faces.map((f) => [f.track, f.left, f.top, f.width, f.height, f.confidence, f.speaking]));
  }
  expect(found.map((faces) => faces.map(([track]) => track))).toEqual(expected.stream.map((faces) => faces.map(([track]) => track)));
  for (const [n, faces] of expected.stream.entries()) {
    for (const [i, face] of faces.entries()) {
      expect(found[n][i].map((v) => v === null)).toEqual(face.map((v) => v === null));
      close(found[n][i].map((v) => v ?? 0), face.map((v) => v ?? 0), 1e-3);
    }
  }
  expect(expected.stream.flat().filter((face) => face[6] !== null).length).toBeGreaterThan(10);
});

test("in silence nothing is opened", async () => {
  const opened: string[] = [];
  const sound = { samples: new Int16Array(32_000), startSeconds: 0 };
  const speakers = new Speakers(25, sound, async (name) => (opened.push(name), twoFaces));
  for (let k = 0; k < 20; k++) await speakers.read({ seconds: k / 25, picture: noisy(60, 90) });
  expect([speakers.faces(0.5), opened]).toEqual([[], []]);
});
