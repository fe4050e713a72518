// The page: what is on the screen, and what the buttons do.

import { mapAt, moved, peak, share, type SeenMap } from "./attention";
import { brightest, COLOUR_MAPS, colours, heat } from "./colours";
import { wishOf } from "./choice";
import { isSpeaking, outlineFaces } from "./outlines";
import { Regions } from "./regions";
import { saveOverlay } from "./save";
import { Timeline } from "./timeline";

const $ = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const video = $<HTMLVideoElement>("video");
const picture = $<HTMLCanvasElement>("picture");
const overlay = $<HTMLCanvasElement>("heat");
const side = $<HTMLCanvasElement>("side");
const colourChoice = $<HTMLSelectElement>("colours");
const opacity = $<HTMLInputElement>("opacity");
const facesChoice = $<HTMLInputElement>("faces");
const engineChoice = $<HTMLSelectElement>("engine");
const small = document.createElement("canvas"); // a map at its own size

let maps: SeenMap[] = [];
let movement: number[] = [];
let drawn: SeenMap | undefined; // the map on the screen
let file: File | null = null;
let mode: "video" | "picture" | "camera" = "video";
let duration = 0;
let table = colours("inferno");
let stream: MediaStream | null = null;
let job = 0; // each file, picture and camera has a number; what the worker says about an earlier one is not for the screen
let saving: AbortController | null = null; // ends the saving of a video, while there is one
let ending = new AbortController(); // ends what the page itself still does for the job

const regions = new Regions(overlay, $("region"), $("regions"), () => draw(), (message) => tell(message));
const timeline = new Timeline($<HTMLCanvasElement>("timeline"), (seconds) => (video.currentTime = seconds), () => video.currentTime);
const worker = new Worker("worker.js", { type: "module", name: "worker" });

function tell(message: string, failed = false): void {
  $("status").textContent = message;
  $("status").classList.toggle("failed", failed);
}

function fail(message: string): void {
  $("progress").hidden = true;
  document.body.dataset.state = "failed";
  tell(`${file ? file.name + ": " : ""}${message}`, true);
}

worker.onmessage = ({ data }) => {
  if (data.kind === "engine") return showEngine(data);
  if (data.job !== job) return;
  if (data.kind === "ready" && document.body.dataset.state !== "working") tell(`Ready. ${$("engine-name").textContent}.`);
  else if (data.kind === "again") {
    maps = [];
    movement = [];
    tell("WebGPU stopped; once more with WASM …");
  }
  else if (data.kind === "failed") fail(data.message);
  else if (data.kind === "opened") duration = data.duration;
  else if (data.kind === "map") {
    const before = maps[maps.length - 1];
    if (mode === "camera") maps.length = movement.length = 0;
    movement.push(before ? moved(before, data) : 0);
    maps.push({ ...data, most: brightest(before?.most ?? 0, data.map) });
    if (mode !== "video") draw();
  } else if (data.kind === "progress") {
    $<HTMLProgressElement>("progress").value = duration ? data.seconds / duration : 0;
    tell(`${Math.round((100 * data.seconds) / (duration || 1))} % analysed, ${data.framesPerSecond.toFixed(1)} frames per second.`);
    drawTimeline();
  } else if (data.kind === "done") {
    $("progress").hidden = true;
    $<HTMLButtonElement>("save-video").disabled = false;
    tell(data.frames > 1 ? `Done: ${data.frames} frames, ${data.framesPerSecond.toFixed(1)} frames per second.` : "Done.");
    document.body.dataset.state = "done";
    drawTimeline();
    draw();
  } else if (data.kind === "next") sendCameraFrame();
};
worker.onerror = (event) => fail(`The page's worker stopped: ${event.message}`);

/** Beside the choice: what computes, and why it is not what was wished for. */
function showEngine({ engine, name, reason }: { engine: string; name: string; reason?: string }): void {
  document.body.dataset.engine = engine;
  $("engine-name").textContent = reason ? `${name} (${reason})` : name;
}

/** Ends the job before, at once, and begins the next: its number. */
function begin(next: typeof mode, chosen: File | null, message: string): number {
  ending.abort();
  ending = new AbortController();
  worker.postMessage({ kind: "begin", job: ++job });
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  picture.width = picture.height = 0;
  file = chosen;
  maps = [];
  movement = [];
  regions.clear();
  duration = 0;
  mode = next;
  document.body.dataset.file = chosen?.name ?? "camera";
  document.body.dataset.state = "working";
  for (const id of ["stage", "tools"]) $(id).hidden = false;
  $("progress").hidden = next !== "video";
  $<HTMLProgressElement>("progress").value = 0;
  $("times").hidden = next !== "video";
  $("save-video").hidden = next !== "video";
  $<HTMLButtonElement>("save-video").disabled = true;
  video.hidden = next === "picture";
  picture.hidden = next !== "picture";
  tell(message);
  draw();
  drawTimeline();
  return job;
}

async function open(chosen: File): Promise<void> {
  if (chosen.type.startsWith("image/")) return openPicture(chosen);
  const own = begin("video", chosen, "Reading the sound …");
  video.src = URL.createObjectURL(chosen);
  worker.postMessage({ kind: "video", job: own, file: chosen });
  video.play().catch(() => undefined); // a browser may want a click first
}

async function openPicture(chosen: File): Promise<void> {
  const own = begin("picture", chosen, "Looking …");
  try {
    const bitmap = await createImageBitmap(chosen);
    if (own !== job) return;
    picture.width = bitmap.width;
    picture.height = bitmap.height;
    const context = picture.getContext("2d", { willReadFrequently: true })!;
    context.drawImage(bitmap, 0, 0);
    worker.postMessage({ kind: "picture", job: own, pixels: context.getImageData(0, 0, bitmap.width, bitmap.height) });
  } catch {
    if (own === job) fail("this picture cannot be read; is the file whole?");
  }
}

async function openCamera(): Promise<void> {
  const own = begin("camera", null, "Opening the camera …");
  try {
    const opened = await navigator.mediaDevices.getUserMedia({ video: true });
    if (own !== job) return opened.getTracks().forEach((track) => track.stop());
    stream = opened;
    video.srcObject = opened;
    await video.play();
    if (own !== job) return;
    tell("The camera's picture stays in this browser.");
    worker.postMessage({ kind: "camera", job: own });
  } catch (error) {
    if (own === job) fail(`The camera cannot be opened: ${(error as Error).message}`);
  }
}

function sendCameraFrame(): void {
  if (!stream) return;
  const grab = new OffscreenCanvas(640, Math.round((640 * video.videoHeight) / (video.videoWidth || 640)) || 360);
  const context = grab.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(video, 0, 0, grab.width, grab.height);
  worker.postMessage({ kind: "frame", job, seconds: video.currentTime, pixels: context.getImageData(0, 0, grab.width, grab.height) });
}

function paint(target: CanvasRenderingContext2D, seen: SeenMap, width: number, height: number, alpha: number): void {
  small.width = seen.width;
  small.height = seen.height;
  small.getContext("2d")!.putImageData(new ImageData(heat(seen.map, table, alpha, seen.most!), seen.width, seen.height), 0, 0);
  target.imageSmoothingEnabled = true;
  target.drawImage(small, 0, 0, width, height);
}

function draw(): void {
  const width = mode === "picture" ? picture.width : video.videoWidth || 640;
  const height = mode === "picture" ? picture.height : video.videoHeight || 360;
  const seen = mode === "video" ? mapAt(maps, video.currentTime) : maps[maps.length - 1];
  for (const [canvas, alpha] of [[overlay, Number(opacity.value)], [side, 1]] as const) {
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    const context = canvas.getContext("2d")!;
    context.clearRect(0, 0, width, height);
    if (canvas === side) {
      context.fillStyle = "black";
      context.fillRect(0, 0, width, height);
    } else if ($<HTMLInputElement>("sides").checked) continue;
    if (seen) paint(context, seen, width, height, alpha);
  }
  if (seen && facesChoice.checked) outlineFaces(overlay.getContext("2d")!, seen, width, height);
  regions.paint(overlay.getContext("2d")!, width, height, seen);
  if (seen && seen !== drawn) overlay.setAttribute("aria-label", described(seen));
  drawn = seen;
}

function described(seen: SeenMap): string {
  const third = (v: number, names: string[]) => names[Math.min(2, Math.max(0, Math.floor(3 * v)))];
  const place = (x: number, y: number) => `${third(y, ["top", "middle", "bottom"])} ${third(x, ["left", "centre", "right"])}`;
  const { x, y } = peak(seen);
  const speakers = seen.faces.filter(isSpeaking).map(({ box: [l, t, r, b] }) => place((l + r) / 2, (t + b) / 2));
  const speaking = speakers.length && facesChoice.checked ? ` Speaking: the face at ${speakers.join(" and at ")}.` : "";
  return `Heat map over the picture. Most attention: ${place(x, y)}.${speaking}`;
}

function drawTimeline(): void {
  if (mode === "video") timeline.redraw(maps, movement, duration || video.duration, video.currentTime);
}

function tick(): void {
  if (mode === "video") {
    const seen = mapAt(maps, video.currentTime);
    if (seen && (seen !== drawn || overlay.width !== video.videoWidth)) draw();
    timeline.move(video.currentTime);
  }
  requestAnimationFrame(tick);
}

function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const stem = () => (file?.name ?? "camera").replace(/\.[^.]*$/, "");

$("save-json").onclick = () => {
  const frames = maps.map((seen, i) => ({
    index: seen.index, seconds: seen.seconds, peak: peak(seen), moved: i ? movement[i] : null, faces: seen.faces,
    regions: Object.fromEntries(regions.all.map((r) => [r.name, share(seen, r.box)])),
  }));
  const document_ = { schema: "diffsal.page.attention", version: 1, source: file?.name ?? "camera", regions: regions.all, frames };
  download(new Blob([JSON.stringify(document_)], { type: "application/json" }), `${stem()}.attention.json`);
};
$("save-png").onclick = () => {
  const canvas = document.createElement("canvas");
  canvas.width = overlay.width;
  canvas.height = overlay.height;
  const context = canvas.getContext("2d")!;
  context.drawImage(mode === "picture" ? picture : video, 0, 0, canvas.width, canvas.height);
  context.drawImage(overlay, 0, 0);
  canvas.toBlob((blob) => blob && download(blob, `${stem()}.saliency.png`));
};
$("save-video").onclick = async () => {
  if (saving) return saving.abort();
  if (!file) return;
  const stopping = (saving = new AbortController());
  const [own, shown, button] = [job, maps, $("save-video")];
  const bar = $<HTMLProgressElement>("progress");
  button.textContent = "Cancel saving";
  try {
    const saved = await saveOverlay(file, `${stem()}.saliency`, (context, seconds, width, height) => {
      const seen = mapAt(shown, seconds);
      if (seen) paint(context, seen, width, height, Number(opacity.value));
      if (seen && facesChoice.checked) outlineFaces(context, seen, width, height);
    }, (part) => {
      if (own !== job) return;
      bar.hidden = false;
      bar.value = part;
      tell(`Saving: ${Math.round(100 * part)} %.`);
    }, AbortSignal.any([ending.signal, stopping.signal]));
    if (own !== job) return;
    if (saved.blob) download(saved.blob, saved.name);
    tell(`Saved ${saved.name}.`);
  } catch (error) {
    const { name, message } = error as Error;
    if (own === job) name === "AbortError" ? tell("Not saved.") : tell(`The video cannot be saved: ${message}`, true);
  } finally {
    if (saving === stopping) saving = null;
    button.textContent = "Save video";
    if (own === job) bar.hidden = true;
  }
};

function load(): void {
  worker.postMessage({ kind: "load", job, wish: engineChoice.value, base: new URL("./", location.href).href });
}

engineChoice.onchange = () => {
  const address = new URL(location.href);
  address.searchParams.set("engine", engineChoice.value);
  history.replaceState(null, "", address);
  const again = file;
  if (again) worker.postMessage({ kind: "begin", job: ++job }); // what runs on the engine before is over
  else tell("Loading the network …");
  load();
  if (again) open(again);
};
for (const name of COLOUR_MAPS) colourChoice.add(new Option(name));
colourChoice.onchange = () => {
  table = colours(colourChoice.value);
  draw();
};
opacity.oninput = draw;
facesChoice.onchange = () => {
  drawn = undefined; // its description changes
  draw();
};
$("sides").onchange = () => {
  $("second").hidden = !$<HTMLInputElement>("sides").checked;
  draw();
};
window.onresize = drawTimeline;
$<HTMLInputElement>("file").onchange = (event) => {
  const input = event.target as HTMLInputElement;
  const chosen = input.files?.[0];
  input.value = ""; // so that the same file can be chosen again
  if (chosen) open(chosen);
};
$("camera").onclick = openCamera;
document.ondragover = (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
};
document.ondragleave = () => $("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const chosen = event.dataTransfer?.files[0];
  if (chosen) open(chosen);
};

/** Until the service worker sees what the page fetches, and so keeps it for when there is no network. */
async function serviceWorker(): Promise<void> {
  await navigator.serviceWorker.register("./sw.js");
  await navigator.serviceWorker.ready;
  if (!navigator.serviceWorker.controller) {
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      setTimeout(resolve, 3000); // a page that was reloaded by force never gets one
    });
  }
}

async function start(): Promise<void> {
  if ("serviceWorker" in navigator) {
    await serviceWorker().catch(() => undefined);
    if (!crossOriginIsolated && !sessionStorage.getItem("reloaded")) {
      sessionStorage.setItem("reloaded", "once"); // now the service worker's headers allow threads
      location.reload();
      return;
    }
  }
  engineChoice.value = wishOf(location.href);
  load();
  requestAnimationFrame(tick);
}
start();
Object.assign(window, { diffsalMaps: () => maps }); // for tests
