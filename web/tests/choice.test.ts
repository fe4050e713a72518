import { expect, test } from "vitest";
import { choose, isSoftware, named, wishOf } from "../src/choice";

const card = { info: { vendor: "nvidia", architecture: "ampere" } };
const software = { info: { vendor: "google", architecture: "swiftshader" } };

test("the address states a wish; anything else is left to the page", () => {
  expect(wishOf("http://localhost:8000/?engine=webgpu")).toBe("webgpu");
  expect(wishOf("http://localhost:8000/?a=b&engine=wasm#x")).toBe("wasm");
  expect(wishOf("http://localhost:8000/?engine=cuda")).toBe("auto");
  expect(wishOf("http://localhost:8000/")).toBe("auto");
});

test("WebGPU where there is a card, else WASM", () => {
  expect(choose("auto", card)).toEqual({ engine: "webgpu" });
  expect(choose("auto", null)).toEqual({ engine: "wasm" });
  expect(choose("auto", software)).toEqual({ engine: "wasm" });
  expect(choose("webgpu", software)).toEqual({ engine: "webgpu" });
  expect(choose("wasm", card)).toEqual({ engine: "wasm" });
  expect(choose("webgpu", null)).toEqual({ engine: "wasm", reason: "this browser gives no WebGPU adapter" });
});

test("software adapters are known by what browsers say of them", () => {
  expect([software, { isFallbackAdapter: true }, { info: { isFallbackAdapter: true } }].map(isSoftware)).toEqual([true, true, true]);
  expect([card, {}, { isFallbackAdapter: false }].map(isSoftware)).toEqual([false, false, false]);
});

test("people read which engine runs", () => {
  expect(named("wasm", 1, null)).toBe("WASM, 1 thread");
  expect(named("wasm", 4, card)).toBe("WASM, 4 threads");
  expect(named("webgpu", 4, card)).toBe("WebGPU (nvidia ampere)");
  expect(named("webgpu", 4, {})).toBe("WebGPU");
});
