// Faces in a picture, by YuNet: diffsal/prediction/faces.py.

import type { Graph } from "./graphs";
import { roundEven, shrinkPicture, type Picture } from "./grid";

const STRIDES = [8, 16, 32];
const LONGEST_SIDE = 320; // of the picture that YuNet sees: faces of 10 pixels there are found
const LEAST_CONFIDENCE = Math.fround(0.6);
const MOST_OVERLAP = 0.3; // of two faces, as intersection over union

/** In pixels. */
export interface Box {
  left: number;
  top: number;
  width: number;
  height: number;
  confidence: number;
}

/** The faces of a picture, surest first. */
export async function detectFaces(picture: Picture, yunet: Graph): Promise<Box[]> {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, roundEven(side * scale)));
  const boxes = await smallFaces(shrinkPicture(picture, width, height), width, height, yunet);
  const [x, y] = [picture.width / width, picture.height / height];
  return boxes.map((b) => ({ ...b, left: b.left * x, top: b.top * y, width: b.width * x, height: b.height * y }));
}

/** The faces of RGB bytes (height, width, 3). */
async function smallFaces(rgb: Uint8Array, width: number, height: number, yunet: Graph): Promise<Box[]> {
  const step = STRIDES[STRIDES.length - 1];
  const [wide, high] = [width, height].map((side) => Math.ceil(side / step) * step);
  const values = new Float32Array(3 * high * wide);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) values[(c * high + y) * wide + x] = rgb[(y * width + x) * 3 + 2 - c]; // YuNet takes BGR
    }
  }
  const names = ["cls", "obj", "bbox"].flatMap((kind) => STRIDES.map((stride) => `${kind}_${stride}`));
  const found = await yunet.run({ input: { data: values, dims: [1, 3, high, wide] } }, names);
  return apart(STRIDES.flatMap((s) => level(found[`cls_${s}`], found[`obj_${s}`], found[`bbox_${s}`], s, wide / s)));
}

/** YuNet's numbers at one stride → boxes: the centre's offset from its cell, the sides' logarithms, in strides. */
function level(classes: Float32Array, objects: Float32Array, boxes: Float32Array, stride: number, columns: number): Box[] {
  const within = (v: number) => Math.min(1, Math.max(0, v));
  const found: Box[] = [];
  for (let cell = 0; cell < classes.length; cell++) {
    const confidence = Math.fround(Math.sqrt(within(classes[cell]) * within(objects[cell])));
    if (confidence <= LEAST_CONFIDENCE) continue;
    const [x, y, w, h] = boxes.subarray(4 * cell, 4 * cell + 4);
    const [width, height] = [Math.exp(w) * stride, Math.exp(h) * stride];
    const left = ((cell % columns) + x) * stride - width / 2;
    found.push({ left, top: (Math.floor(cell / columns) + y) * stride - height / 2, width, height, confidence });
  }
  return found;
}

/** Boxes from the surest down, without those that share too much with a surer one: as cv2.dnn.NMSBoxes. */
function apart(boxes: Box[]): Box[] {
  const kept: Box[] = [];
  for (const box of boxes.sort((a, b) => b.confidence - a.confidence)) {
    if (kept.every((surer) => overlap(surer, box) <= MOST_OVERLAP)) kept.push(box);
  }
  return kept;
}

/** Intersection over union. */
export function overlap(a: Box, b: Box): number {
  const width = Math.min(a.left + a.width, b.left + b.width) - Math.max(a.left, b.left);
  const height = Math.min(a.top + a.height, b.top + b.height) - Math.max(a.top, b.top);
  const both = Math.max(0, width) * Math.max(0, height);
  return both / Math.max(a.width * a.height + b.width * b.height - both, 1e-9);
}
