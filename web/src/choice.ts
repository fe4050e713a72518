// Which engine runs the network: WASM, or WebGPU where it is asked for and the browser gives a graphics card.

export type Engine = "webgpu" | "wasm";

/** What is looked at of a GPUAdapter. */
export interface Adapter {
  info?: { vendor?: string; architecture?: string };
}

/** The engine that an address asks for: `?engine=webgpu`; WASM else. */
export function wishOf(address: string): Engine {
  return new URL(address).searchParams.get("engine") === "webgpu" ? "webgpu" : "wasm";
}

/** The engine to try first, and why it is not the one that was wished for. `adapter` null: the browser gives none. */
export function choose(wish: Engine, adapter: Adapter | null): { engine: Engine; reason?: string } {
  if (wish === "wasm" || adapter) return { engine: wish };
  return { engine: "wasm", reason: "this browser gives no WebGPU adapter" };
}

/** What the page says of the engine that runs. */
export function named(engine: Engine, threads: number, adapter: Adapter | null): string {
  if (engine === "wasm") return `WASM, ${threads} thread${threads > 1 ? "s" : ""}`;
  const { vendor, architecture } = adapter?.info ?? {};
  const card = [vendor, architecture].filter(Boolean).join(" ");
  return card ? `WebGPU (${card})` : "WebGPU";
}
