// After the build: onnxruntime-web's files beside the page, the WASM gzipped (14 MB → 3.7 MB; the page unpacks it).
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const from = "node_modules/onnxruntime-web/dist/";
const to = "../src/diffsal/web/page/";
copyFileSync(from + "ort.wasm.min.mjs", to + "ort.wasm.min.mjs");
copyFileSync(from + "ort-wasm-simd-threaded.mjs", to + "ort-wasm-simd-threaded.mjs");
writeFileSync(to + "ort-wasm-simd-threaded.wasm.gz", gzipSync(readFileSync(from + "ort-wasm-simd-threaded.wasm"), { level: 9 }));
