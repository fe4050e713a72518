import { defineConfig } from "vite";

const plain = { entryFileNames: "[name].js", chunkFileNames: "[name].js", assetFileNames: "[name][extname]" };

export default defineConfig({
  base: "./",
  build: { outDir: "../src/diffsal/web/page", emptyOutDir: true, rollupOptions: { output: plain } },
  worker: { format: "es", rollupOptions: { output: plain } },
});
