// Faces followed through a video, 25 moments a second, and cropped for LR-ASD: diffsal/prediction/face_tracks.py.

import { overlap, type Box } from "./faces";
import { grid, resize, shrinkPicture, type Grid, type Picture } from "./grid";

export const MOMENTS_PER_SECOND = 25; // LR-ASD's clock
export const DETECT_EVERY = 5; // moments: 0.2 s
export const CROP_SIDE = 112;
const LEAST_SHARED = 0.3; // of two boxes, as intersection over union, to be the same face
const MISSES = 3; // detections in a row without its face that end a track
const MOST_FACES = 6; // at once, the largest
const SMOOTHED = 13; // boxes whose median is taken
const BORDER = 110; // grey, outside the picture
const CUT_SIZE = [32, 18] as const;
const CUT_CHANGE = 25; // mean change of brightness, of 255, between two frames that is a cut

/** A centre and half a face's larger side, in pixels. */
export interface Place {
  x: number;
  y: number;
  half: number;
}

function median(values: number[]): number {
  const sorted = values.sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export class FaceTrack {
  misses = 0;
  private recent: Place[] = [];

  constructor(readonly number: number, public box: Box) {}

  /** The face stays where it was found last for one more moment. */
  hold(): void {
    const { left, top, width, height } = this.box;
    this.recent.push({ x: left + width / 2, y: top + height / 2, half: Math.max(width, height) / 2 });
    if (this.recent.length > SMOOTHED) this.recent.shift();
  }

  /** Medians of the last boxes. */
  get place(): Place {
    const of = (key: keyof Place) => median(this.recent.map((place) => place[key]));
    return { x: of("x"), y: of("y"), half: of("half") };
  }
}

/** The tracks that live now. */
export class FaceTracks {
  live: FaceTrack[] = [];
  private begun = 0;

  endAll(): void {
    this.live = [];
  }

  /** Gives each box to the live track that it shares most with; the others begin tracks. */
  link(found: Box[]): void {
    const largest = found.slice().sort((a, b) => b.width * b.height - a.width * a.height).slice(0, MOST_FACES);
    const boxes = new Set(found.filter((box) => largest.includes(box)));
    const missed = new Set(this.live);
    const pairs = this.live.flatMap((track) => [...boxes].map((box) => ({ track, box, shared: overlap(track.box, box) })));
    for (const { track, box } of pairs.filter((p) => p.shared >= LEAST_SHARED).sort((a, b) => b.shared - a.shared)) {
      if (!missed.has(track) || !boxes.has(box)) continue;
      missed.delete(track);
      boxes.delete(box);
      Object.assign(track, { box, misses: 0 });
    }
    for (const track of missed) track.misses++;
    this.live = this.live.filter((track) => track.misses < MISSES);
    for (const box of boxes) if (this.live.length < MOST_FACES) this.live.push(new FaceTrack(++this.begun, box));
  }

  /** One more moment for every live track. */
  hold(): void {
    for (const track of this.live) track.hold();
  }
}

/** Tells where one shot ends and another begins, from frame to frame. */
export class Cuts {
  private before: Float32Array | null = null;

  isFirstOfShot(picture: Picture): boolean {
    const small = shrinkPicture(picture, ...CUT_SIZE);
    const here = Float32Array.from({ length: small.length / 3 }, (_, i) => (small[3 * i] + small[3 * i + 1] + small[3 * i + 2]) / 3);
    const { before } = this;
    this.before = here;
    return !!before && here.reduce((sum, v, i) => sum + Math.abs(v - before[i]), 0) / here.length > CUT_CHANGE;
  }
}

/**
 * The face as LR-ASD sees it, grey from 0 to 255 (112, 112): of the square from 1 half-size above the centre to 1.8 below it
 * and 1.4 to each side, the middle: 1.4 half-sizes.
 */
export function cropFace(picture: Picture, { x, y, half }: Place): Float32Array {
  const side = 1.4 * half;
  const left = x - side / 2;
  const top = y - 0.3 * half;
  const firstX = Math.max(0, Math.trunc(left) - 2), firstY = Math.max(0, Math.trunc(top) - 2);
  const lastX = Math.min(picture.width, Math.trunc(left + side) + 3), lastY = Math.min(picture.height, Math.trunc(top + side) + 3);
  if (firstX >= lastX || firstY >= lastY) return new Float32Array(CROP_SIDE ** 2).fill(BORDER);
  const whole = grey(picture, firstX, firstY, lastX - firstX, lastY - firstY);
  const shrink = side > 2 * CROP_SIDE ? Math.trunc(side / CROP_SIDE) : 1; // bilinear enlargement alone would skip pixels
  const from = resize(whole, Math.max(1, Math.trunc(whole.width / shrink)), Math.max(1, Math.trunc(whole.height / shrink)));
  if (shrink > 1) from.values.set(Uint8ClampedArray.from(from.values)); // rounded
  const [scaleX, scaleY] = [from.width / whole.width, from.height / whole.height];
  const at = (column: number, row: number) =>
    column < 0 || row < 0 || column >= from.width || row >= from.height ? BORDER : from.values[row * from.width + column];
  const crop = new Uint8ClampedArray(CROP_SIDE ** 2); // which rounds
  for (let row = 0; row < CROP_SIDE; row++) {
    const v = (((row + 0.5) * side) / CROP_SIDE + top - firstY) * scaleY - 0.5;
    const y0 = Math.floor(v);
    for (let column = 0; column < CROP_SIDE; column++) {
      const u = (((column + 0.5) * side) / CROP_SIDE + left - firstX) * scaleX - 0.5;
      const x0 = Math.floor(u);
      const upper = at(x0, y0) + (u - x0) * (at(x0 + 1, y0) - at(x0, y0));
      const lower = at(x0, y0 + 1) + (u - x0) * (at(x0 + 1, y0 + 1) - at(x0, y0 + 1));
      crop[row * CROP_SIDE + column] = upper + (v - y0) * (lower - upper);
    }
  }
  return Float32Array.from(crop);
}

/** A piece of a picture in whole greys, by OpenCV's integers. */
function grey({ data, width: stride }: Picture, left: number, top: number, width: number, height: number): Grid {
  const values = new Float32Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0, at = ((top + y) * stride + left) * 4; x < width; x++, at += 4) {
      values[y * width + x] = (data[at] * 9798 + data[at + 1] * 19235 + data[at + 2] * 3735 + 16384) >> 15;
    }
  }
  return grid(width, height, values);
}
