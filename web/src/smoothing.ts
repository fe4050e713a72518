// Each map as the mean of those around it in time: `smooth` of diffsal/prediction/maps.py.

import type { FinishedMap } from "./engine";
import type { Finish } from "./finish";

const PAST_REACH = 2.5; // times past_seconds: maps farther away do not count
const FUTURE_REACH = 1.5; // times future_seconds

export class Smoothing {
  private readonly past: number; // all in frames
  private readonly future: number;
  private readonly before: number;
  private readonly after: number;
  private kept: FinishedMap[] = [];
  private waiting: FinishedMap[] = [];

  constructor(finish: Finish, frameRate: number, private readonly emit: (map: FinishedMap) => void) {
    this.past = finish.past_seconds * frameRate;
    this.future = finish.future_seconds * frameRate;
    this.before = Math.trunc(PAST_REACH * this.past);
    this.after = Math.trunc(FUTURE_REACH * this.future);
  }

  add(found: FinishedMap): void {
    this.kept.push(found);
    this.waiting.push(found);
    while (this.waiting.length && this.waiting[0].index + this.after <= found.index) this.emitNext();
  }

  /** No map comes any more. */
  end(): void {
    while (this.waiting.length) this.emitNext();
  }

  private emitNext(): void {
    const centre = this.waiting.shift()!;
    this.kept = this.kept.filter(({ index }) => index >= centre.index - this.before);
    const near = this.kept.filter(({ index }) => index <= centre.index + this.after);
    const weights = near.map(({ index }) =>
      Math.exp(-Math.abs(index - centre.index) / ((index < centre.index ? this.past : this.future) || 1)));
    const total = weights.reduce((a, b) => a + b, 0);
    const mean = new Float32Array(centre.map.values.length);
    near.forEach(({ map }, k) => map.values.forEach((v, i) => (mean[i] += (v * weights[k]) / total)));
    this.emit({ ...centre, map: { ...centre.map, values: mean } });
  }
}
