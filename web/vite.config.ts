import { defineConfig } from "vite";

const plain = { entryFileNames: "[name].js", chunkFileNames: "[name].js", assetFileNames: "[name][extname]" };

// The worker is an entry of its own, so that what it shares with the page (mediabunny) is there once
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/diffsal/web/page", emptyOutDir: true,
    rolldownOptions: {
      input: ["index.html", "src/worker.ts"],
      output: { ...plain, codeSplitting: { groups: [{ name: "shared", minShareCount: 2 }] } },
    },
  },
});
