// After the build: onnxruntime-web's files beside the page, the WASM gzipped (14 MB → 3.7 MB, with WebGPU 27 MB → 6.6 MB; the page
// unpacks it).
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const from = "node_modules/onnxruntime-web/dist/";
const to = "../src/diffsal/web/page/";
for (const [script, wasm] of [["ort.wasm", "ort-wasm-simd-threaded"], ["ort.webgpu", "ort-wasm-simd-threaded.asyncify"]]) {
  copyFileSync(`${from}${script}.min.mjs`, `${to}${script}.min.mjs`);
  copyFileSync(`${from}${wasm}.mjs`, `${to}${wasm}.mjs`);
  writeFileSync(`${to}${wasm}.wasm.gz`, gzipSync(readFileSync(`${from}${wasm}.wasm`), { level: 9 }));
}
