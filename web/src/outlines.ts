// Faces, outlined: in full the one that speaks, dashed the others.

import type { SeenFace, SeenMap } from "./attention";

const SPEAKS = 0.5; // how surely, from which on a face counts as speaking

export const isSpeaking = (face: SeenFace): boolean => (face.speaking ?? 0) >= SPEAKS;

/** Over a picture of this size. */
export function outlineFaces(context: CanvasRenderingContext2D, { faces }: SeenMap, width: number, height: number): void {
  const line = Math.max(2, width / 300);
  for (const face of faces) {
    const [left, top, right, bottom] = face.box;
    context.beginPath();
    context.roundRect(left * width, top * height, (right - left) * width, (bottom - top) * height, 3 * line);
    context.setLineDash(isSpeaking(face) ? [] : [2 * line, 2 * line]);
    // Light on dark, to be seen over any colours
    for (const [style, wide] of [["black", 2], [isSpeaking(face) ? "#4dff88" : "white", 1]] as const) {
      context.strokeStyle = style;
      context.lineWidth = (isSpeaking(face) ? line : line / 2) * wide;
      context.stroke();
    }
  }
  context.setLineDash([]);
}
