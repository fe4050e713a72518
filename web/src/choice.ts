// Which engine runs the network: WebGPU where there is a graphics card, else WASM.

export type Engine = "webgpu" | "wasm";
export type Wish = Engine | "auto";

/** What is looked at of a GPUAdapter; older browsers have `isFallbackAdapter` on the adapter itself. */
export interface Adapter {
  isFallbackAdapter?: boolean;
  info?: { vendor?: string; architecture?: string; isFallbackAdapter?: boolean };
}

/** The wish that an address states: `?engine=webgpu` or `?engine=wasm`. */
export function wishOf(address: string): Wish {
  const engine = new URL(address).searchParams.get("engine");
  return engine === "webgpu" || engine === "wasm" ? engine : "auto";
}

/** A graphics card that software imitates is slower than WASM. */
export function isSoftware(adapter: Adapter): boolean {
  return !!(adapter.isFallbackAdapter || adapter.info?.isFallbackAdapter) || adapter.info?.architecture === "swiftshader";
}

/** The engine to try first, and why it is not the one that was wished for. `adapter` null: the browser gives none. */
export function choose(wish: Wish, adapter: Adapter | null): { engine: Engine; reason?: string } {
  if (wish === "wasm") return { engine: "wasm" };
  if (!adapter) return { engine: "wasm", ...(wish === "webgpu" && { reason: "this browser gives no WebGPU adapter" }) };
  return { engine: wish === "auto" && isSoftware(adapter) ? "wasm" : "webgpu" };
}

/** What the page says of the engine that runs. */
export function named(engine: Engine, threads: number, adapter: Adapter | null): string {
  if (engine === "wasm") return `WASM, ${threads} thread${threads > 1 ? "s" : ""}`;
  const { vendor, architecture } = adapter?.info ?? {};
  const card = [vendor, architecture].filter(Boolean).join(" ");
  return card ? `WebGPU (${card})` : "WebGPU";
}
