// What the tests that hold the page to Python's numbers share.
import { expect } from "vitest";

export function close(found: ArrayLike<number>, wanted: number[], within: number): void {
  expect(found.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++) expect(Math.abs(found[i] - wanted[i]), `value ${i}`).toBeLessThan(within);
}

/** 440 Hz at 16 kHz. */
export const tone = (seconds: number): Int16Array =>
  Int16Array.from({ length: 16_000 * seconds }, (_, t) => Math.trunc(0.3 * Math.sin((t * 2 * Math.PI * 440) / 16_000) * 32_767));
