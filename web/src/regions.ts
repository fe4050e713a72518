// Regions of the picture, drawn by mouse, finger or keys, and the share of attention that each gets.

import { share, type Box, type Region, type SeenMap } from "./attention";

const STEP = 0.02; // of the picture, per key
const SMALLEST = 0.01;
const HELP = "Drag a box over the picture. By keys: arrows move it, Shift and arrows size it, Enter adds it, Escape leaves.";
const percent = (v: number) => `${Math.round(100 * v)} %`;

export class Regions {
  all: Region[] = [];
  private draft: Box | null = null;
  private corner: [number, number] | null = null;

  constructor(
    private readonly overlay: HTMLCanvasElement, private readonly button: HTMLElement, private readonly list: HTMLElement,
    private readonly changed: () => void, private readonly tell: (message: string) => void,
  ) {
    button.onclick = () => this.drawing(!overlay.classList.contains("drawing"));
    overlay.onpointerdown = (event) => {
      this.corner = this.place(event);
      overlay.setPointerCapture(event.pointerId);
    };
    overlay.onpointermove = (event) => {
      if (!this.corner) return;
      const [x, y] = this.place(event);
      const [u, v] = this.corner;
      this.draft = [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
      this.changed();
    };
    overlay.onpointerup = (event) => {
      overlay.onpointermove?.call(overlay, event);
      if (this.corner) this.add();
    };
    overlay.onkeydown = (event) => this.key(event);
  }

  clear(): void {
    this.all = [];
    this.drawing(false);
    this.show();
  }

  private place(event: PointerEvent): [number, number] {
    const box = this.overlay.getBoundingClientRect();
    const within = (v: number) => Math.min(1, Math.max(0, v));
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  private drawing(on: boolean): void {
    const { overlay, button } = this;
    if (on === overlay.classList.contains("drawing")) return;
    overlay.classList.toggle("drawing", on);
    button.setAttribute("aria-pressed", String(on));
    overlay.setAttribute("role", on ? "application" : "img"); // an application gets the arrow keys from a screen reader
    overlay.tabIndex = on ? 0 : -1;
    this.draft = this.corner = null;
    if (on) {
      overlay.focus({ preventScroll: true });
      this.tell(HELP);
    } else if (document.activeElement === overlay) button.focus();
    this.changed();
  }

  private key(event: KeyboardEvent): void {
    const by = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (by) {
      const [l, t, r, b] = this.draft ?? [0.4, 0.4, 0.6, 0.6];
      const within = (v: number, low: number, high: number) => Math.min(high, Math.max(low, v));
      if (event.shiftKey) this.draft = [l, t, within(r + by[0], l + STEP, 1), within(b + by[1], t + STEP, 1)];
      else {
        const [x, y] = [within(by[0], -l, 1 - r), within(by[1], -t, 1 - b)];
        this.draft = [l + x, t + y, r + x, b + y];
      }
      const [left, top, right, bottom] = this.draft.map(percent);
      this.tell(`Box from ${left} to ${right} across and from ${top} to ${bottom} down. Enter adds it.`);
      this.changed();
    } else if (event.key === "Enter") this.add();
    else if (event.key === "Escape") this.drawing(false);
    else return;
    event.preventDefault();
  }

  private add(): void {
    const box = this.draft;
    if (!box || box[2] - box[0] < SMALLEST || box[3] - box[1] < SMALLEST) {
      this.draft = this.corner = null;
      return;
    }
    const name = `Region ${1 + Math.max(0, ...this.all.map((region) => Number(region.name.slice(7))))}`;
    this.all.push({ name, box });
    this.drawing(false);
    this.show();
    this.tell(`${name} added.`);
    this.changed();
  }

  /** The boxes over the picture, and each one's share of the map. */
  paint(context: CanvasRenderingContext2D, width: number, height: number, seen: SeenMap | undefined): void {
    context.strokeStyle = "white";
    context.lineWidth = Math.max(2, width / 300);
    const stroke = ([l, t, r, b]: Box) => context.strokeRect(l * width, t * height, (r - l) * width, (b - t) * height);
    for (const { box } of this.all) stroke(box);
    if (this.draft) {
      context.setLineDash([width / 60, width / 120]);
      stroke(this.draft);
      context.setLineDash([]);
    }
    for (const [i, { box }] of this.all.entries()) {
      const output = this.list.children[i]?.querySelector("output");
      const text = seen ? percent(share(seen, box)) : "";
      if (output && output.textContent !== text) output.textContent = text;
    }
  }

  private show(): void {
    this.list.replaceChildren(...this.all.map((region) => {
      const item = document.createElement("li");
      const remove = document.createElement("button");
      remove.textContent = "Remove";
      remove.setAttribute("aria-label", `Remove ${region.name}`);
      remove.onclick = () => {
        this.all = this.all.filter((other) => other !== region);
        this.show();
        this.changed();
        this.button.focus();
      };
      item.append(`${region.name}: `, document.createElement("output"), remove);
      return item;
    }));
  }
}
