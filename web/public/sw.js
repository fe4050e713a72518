// After the first visit the page works offline. On hosts that do not send them, adds the headers that threads need.
const CACHE = "diffsal-3";
const PAGE = [
  "./", "index.css", "index.js", "worker.js", "shared.js", "rolldown-runtime.js", "weights.json", "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
];

self.addEventListener("install", (event) => {
  self.skipWaiting(); // the page itself came before this script: fetch it once more
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(PAGE)));
});
self.addEventListener("activate", (event) => event.waitUntil((async () => {
  for (const name of await caches.keys()) if (name.startsWith("diffsal-") && name !== CACHE) await caches.delete(name);
  await self.clients.claim();
})()));

function isolated(answer) {
  const headers = new Headers(answer.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const large = /\.(onnx|gz)$/.test(new URL(request.url).pathname); // their version or hash stands in their query
  const kept = await cache.match(request, { ignoreSearch: !large });
  if (large && kept) return isolated(kept);
  try {
    const fresh = await fetch(request);
    if (fresh.status === 200) {
      if (large) await cache.delete(request, { ignoreSearch: true }); // of earlier versions
      await cache.put(request, fresh.clone()).catch(() => undefined); // a full disk
    }
    return isolated(fresh);
  } catch (error) {
    if (kept) return isolated(kept);
    throw error;
  }
}

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method === "GET" && url.origin === self.location.origin) event.respondWith(answer(event.request));
});
