// The timeline under a video: bars for how much attention moves, dots for its peaks, and where the video is now.

import { peaksOf, type SeenMap } from "./attention";

const MAPS_A_SECOND = 12.5; // at most; a bar's width
const PEAKS = 8;
const PEAKS_APART = 12; // maps

export class Timeline {
  private readonly bars = document.createElement("canvas"); // drawn when maps come, not for every picture of the screen
  private seconds = 1;

  constructor(private readonly canvas: HTMLCanvasElement, seek: (seconds: number) => void, now: () => number) {
    canvas.onclick = (event) => seek((event.offsetX / canvas.clientWidth) * this.seconds);
    canvas.onkeydown = (event) => {
      const to: Record<string, number> = {
        ArrowLeft: now() - 1, ArrowRight: now() + 1, PageUp: now() + 10, PageDown: now() - 10, Home: 0, End: this.seconds,
      };
      if (!(event.key in to)) return;
      event.preventDefault();
      seek(Math.min(this.seconds, Math.max(0, to[event.key])));
    };
  }

  /** All of it again: `movement[i]` belongs to `maps[i]`; `seconds` is how long the video is. */
  redraw(maps: SeenMap[], movement: number[], seconds: number, now: number): void {
    const { bars, canvas } = this;
    const ratio = devicePixelRatio || 1;
    const width = (bars.width = canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio)));
    const height = (bars.height = canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio)));
    this.seconds = seconds || 1;
    const context = bars.getContext("2d")!;
    const most = movement.reduce((a, b) => Math.max(a, b), 0.01);
    const x = (i: number) => (maps[i].seconds / this.seconds) * width;
    context.fillStyle = "#d95f0e";
    for (let i = 0; i < maps.length; i++) {
      const tall = (movement[i] / most) * height * 0.9;
      context.fillRect(x(i), height - tall, Math.max(1, width / (this.seconds * MAPS_A_SECOND)), tall);
    }
    context.fillStyle = "#2b7de9";
    for (const i of peaksOf(movement, PEAKS_APART, PEAKS)) {
      context.beginPath();
      context.arc(x(i), 8 * ratio, 5 * ratio, 0, 7);
      context.fill();
    }
    this.move(now);
  }

  /** The line that says where the video is. */
  move(now: number): void {
    const { bars, canvas, seconds } = this;
    const context = canvas.getContext("2d")!;
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bars, 0, 0);
    context.fillStyle = "#2b7de9";
    context.fillRect((now / seconds) * canvas.width, 0, 2 * (devicePixelRatio || 1), canvas.height);
    const text = `${now.toFixed(1)} of ${seconds.toFixed(1)} seconds`;
    if (canvas.getAttribute("aria-valuetext") === text) return;
    canvas.setAttribute("aria-valuemax", seconds.toFixed(1));
    canvas.setAttribute("aria-valuenow", now.toFixed(1));
    canvas.setAttribute("aria-valuetext", text);
  }
}
