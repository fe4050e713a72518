// Fetches the weights and an engine, and opens the network on it; a WebGPU that fails gives way to WASM.

import { choose, named, type Adapter, type Engine } from "./choice";
import { Network } from "./engine";

const FILES: Record<Engine, { script: string; wasm: string }> = {
  wasm: { script: "ort.wasm.min.mjs", wasm: "ort-wasm-simd-threaded.wasm.gz" },
  webgpu: { script: "ort.webgpu.min.mjs", wasm: "ort-wasm-simd-threaded.asyncify.wasm.gz" },
};

export interface Loaded {
  network: Network;
  engine: Engine;
  name: string; // for people
  reason?: string; // why it is not the engine that was to run
}

async function fetchBytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** A file of weights, as weights.json tells of it. */
interface Told {
  file: string;
  sha256: string;
}

// The service worker keeps large files by their whole address: another version has another
const weightsAddress = (base: string, { file, sha256 }: Told) => `${base}${file}?sha256=${sha256}`;

async function fetchWeights(base: string, told: Told): Promise<Uint8Array> {
  const bytes = await fetchBytes(weightsAddress(base, told));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hash = [...digest].map((b) => b.toString(16).padStart(2, "0")).join("");
  if (hash !== told.sha256) throw new Error(`${told.file} is damaged: its SHA-256 is not the expected one. Reload the page.`);
  return bytes;
}

const wasmAddress = (base: string, engine: Engine, version: string) => `${base}${FILES[engine].wasm}?version=${version}`;

async function runtime(base: string, engine: Engine): Promise<any> {
  const ort = await import(/* @vite-ignore */ base + FILES[engine].script);
  if (ort.env.wasm.wasmBinary) return ort; // loaded before, for the same engine
  const packed = await fetchBytes(wasmAddress(base, engine, ort.env.versions.web));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  ort.env.wasm.wasmBinary = await new Response(stream).arrayBuffer();
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  return ort;
}

async function adapterOf(): Promise<Adapter | null> {
  const gpu = (navigator as { gpu?: { requestAdapter(options: object): Promise<Adapter | null> } }).gpu;
  return (await gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null)) ?? null;
}

/** Raises an error for weights that cannot be had or are damaged, and where WASM cannot run them either. */
export async function load(base: string, wish: Engine): Promise<Loaded> {
  const adapter = wish === "wasm" ? null : await adapterOf();
  let { engine, reason } = choose(wish, adapter);
  const about = await (await fetch(base + "weights.json")).json();
  const graphs: Told[] = about.graphs;
  const bytes = await fetchWeights(base, about);
  const fetchGraph = (name: string) => fetchWeights(base, graphs.find(({ file }) => file === name)!);
  const open = async () => {
    const ort = await runtime(base, engine);
    const network = await Network.open(ort, bytes, about.config, about.finish, engine, fetchGraph);
    // so that they are at hand without a network, too
    for (const told of graphs) void fetch(weightsAddress(base, told)).catch(() => undefined);
    return { network, engine, name: named(engine, ort.env.wasm.numThreads, adapter), reason };
  };
  if (engine === "webgpu") {
    try {
      const opened = await open();
      await opened.network.warmUp(); // compiles the shaders; where one cannot be, this is where it shows
      // so that WASM is at hand without a network, too
      void fetch(wasmAddress(base, "wasm", opened.network.ort.env.versions.web)).catch(() => undefined);
      return opened;
    } catch (error) {
      reason = `WebGPU failed: ${error instanceof Error ? error.message : String(error)}`;
      engine = "wasm";
    }
  }
  return open();
}
