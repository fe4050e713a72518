import { expect, test } from "vitest";
import { choose, named, wishOf } from "../src/choice";

const card = { info: { vendor: "nvidia", architecture: "ampere" } };

test("WASM unless the address asks for WebGPU", () => {
  expect(wishOf("http://localhost:8000/?a=b&engine=webgpu#x")).toBe("webgpu");
  for (const end of ["", "?engine=wasm", "?engine=cuda"]) expect(wishOf(`http://localhost:8000/${end}`)).toBe("wasm");
});

test("WebGPU needs an adapter", () => {
  expect(choose("webgpu", card)).toEqual({ engine: "webgpu" });
  expect(choose("wasm", card)).toEqual({ engine: "wasm" });
  expect(choose("webgpu", null)).toEqual({ engine: "wasm", reason: "this browser gives no WebGPU adapter" });
});

test("people read which engine runs", () => {
  expect(named("wasm", 1, null)).toBe("WASM, 1 thread");
  expect(named("wasm", 4, card)).toBe("WASM, 4 threads");
  expect(named("webgpu", 4, card)).toBe("WebGPU (nvidia ampere)");
  expect(named("webgpu", 4, {})).toBe("WebGPU");
});
