// The page: what is on the screen, and what the buttons do.

import { mapAt, moved, peak, peaksOf, share, type Region, type SeenMap } from "./attention";
import { COLOUR_MAPS, colours, heat } from "./colours";
import { saveOverlay } from "./save";

const $ = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const video = $<HTMLVideoElement>("video");
const picture = $<HTMLCanvasElement>("picture");
const overlay = $<HTMLCanvasElement>("heat");
const side = $<HTMLCanvasElement>("side");
const timeline = $<HTMLCanvasElement>("timeline");
const colourChoice = $<HTMLSelectElement>("colours");
const opacity = $<HTMLInputElement>("opacity");
const small = document.createElement("canvas"); // a map at its own size

let maps: SeenMap[] = [];
let movement: number[] = [];
let regions: Region[] = [];
let file: File | null = null;
let mode: "video" | "picture" | "camera" = "video";
let duration = 0;
let table = colours("inferno");
let stream: MediaStream | null = null;
let job = 0; // each file, picture and camera has a number; what the worker says about an earlier one is not for the screen
let ending = new AbortController(); // ends what the page itself still does for the job

const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "worker" });

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
  if (data.job !== job) return;
  if (data.kind === "ready") tell(`Ready. ${data.threads} thread${data.threads > 1 ? "s" : ""}.`);
  else if (data.kind === "failed") fail(data.message);
  else if (data.kind === "opened") duration = data.duration;
  else if (data.kind === "map") {
    if (mode === "camera") maps.length = movement.length = 0;
    movement.push(maps.length ? moved(maps[maps.length - 1], data) : 0);
    maps.push(data);
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
  regions = [];
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
  listRegions();
  draw();
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
  small.getContext("2d")!.putImageData(new ImageData(heat(seen.map, table, alpha), seen.width, seen.height), 0, 0);
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
  const context = overlay.getContext("2d")!;
  context.strokeStyle = "white";
  context.lineWidth = Math.max(2, width / 300);
  for (const { box: [l, t, r, b] } of regions) context.strokeRect(l * width, t * height, (r - l) * width, (b - t) * height);
  if (seen) for (const [i, { box }] of regions.entries()) {
    const output = document.querySelector(`#regions li:nth-child(${i + 1}) output`);
    if (output) output.textContent = `${Math.round(100 * share(seen, box))} %`;
  }
}

function drawTimeline(): void {
  const ratio = devicePixelRatio || 1;
  const width = (timeline.width = timeline.clientWidth * ratio);
  const height = (timeline.height = timeline.clientHeight * ratio);
  const context = timeline.getContext("2d")!;
  const total = duration || video.duration || 1;
  const most = Math.max(...movement.slice(1), 0.01);
  const x = (seconds: number) => (seconds / total) * width;
  context.fillStyle = "#d95f0e";
  for (let i = 0; i < maps.length; i++) {
    const tall = (movement[i] / most) * height * 0.9;
    context.fillRect(x(maps[i].seconds), height - tall, Math.max(1, width / (total * 12.5)), tall);
  }
  context.fillStyle = "#2b7de9";
  for (const i of peaksOf(movement, 12, 8)) {
    context.beginPath();
    context.arc(x(maps[i].seconds), 8 * ratio, 5 * ratio, 0, 7);
    context.fill();
  }
  context.fillRect(x(video.currentTime), 0, 2 * ratio, height);
  timeline.setAttribute("aria-valuemax", total.toFixed(1));
  timeline.setAttribute("aria-valuenow", video.currentTime.toFixed(1));
  timeline.setAttribute("aria-valuetext", `${video.currentTime.toFixed(1)} of ${total.toFixed(1)} seconds`);
}

function tick(): void {
  if (mode === "video" && maps.length) {
    draw();
    drawTimeline();
  }
  requestAnimationFrame(tick);
}

function listRegions(): void {
  $("regions").replaceChildren(...regions.map((region, i) => {
    const item = document.createElement("li");
    const remove = document.createElement("button");
    remove.textContent = "Remove";
    remove.onclick = () => {
      regions.splice(i, 1);
      listRegions();
      draw();
    };
    item.append(`${region.name}: `, document.createElement("output"), remove);
    return item;
  }));
}

let corner: [number, number] | null = null;
const place = (event: PointerEvent): [number, number] => {
  const box = overlay.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
};
overlay.onpointerdown = (event) => {
  corner = place(event);
  overlay.setPointerCapture(event.pointerId);
};
overlay.onpointerup = (event) => {
  if (!corner) return;
  const [x, y] = place(event);
  const box: Region["box"] = [Math.min(x, corner[0]), Math.min(y, corner[1]), Math.max(x, corner[0]), Math.max(y, corner[1])];
  corner = null;
  if (box[2] - box[0] > 0.01 && box[3] - box[1] > 0.01) regions.push({ name: `Region ${regions.length + 1}`, box });
  $("region").click();
  listRegions();
  draw();
};
$("region").onclick = () => {
  const on = overlay.classList.toggle("drawing");
  $("region").setAttribute("aria-pressed", String(on));
};

export function download(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const stem = () => (file?.name ?? "camera").replace(/\.[^.]*$/, "");

$("save-json").onclick = () => {
  const frames = maps.map((seen, i) => ({
    index: seen.index, seconds: seen.seconds, peak: peak(seen), moved: i ? movement[i] : null,
    regions: Object.fromEntries(regions.map((r) => [r.name, share(seen, r.box)])),
  }));
  const document_ = { schema: "diffsal.page.attention", version: 1, source: file?.name ?? "camera", regions, frames };
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
  if (!file) return;
  const { signal } = ending;
  const [own, shown, name] = [job, maps, stem()];
  try {
    const saved = await saveOverlay(file, (context, seconds, width, height) => {
      const seen = mapAt(shown, seconds);
      if (seen) paint(context, seen, width, height, Number(opacity.value));
    }, (part) => own === job && tell(`Saving: ${Math.round(100 * part)} %.`), signal);
    if (own !== job) return;
    download(saved.blob, `${name}.saliency.${saved.extension}`);
    tell("Saved.");
  } catch (error) {
    if (own === job) tell(`The video cannot be saved: ${(error as Error).message}`, true);
  }
};

for (const name of COLOUR_MAPS) colourChoice.add(new Option(name));
colourChoice.onchange = () => {
  table = colours(colourChoice.value);
  draw();
};
opacity.oninput = draw;
$("sides").onchange = () => {
  $("second").hidden = !$<HTMLInputElement>("sides").checked;
  draw();
};
timeline.onclick = (event) => (video.currentTime = (event.offsetX / timeline.clientWidth) * (duration || video.duration));
timeline.onkeydown = (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10 }[event.key];
  if (step) {
    event.preventDefault();
    video.currentTime = Math.max(0, video.currentTime + step);
  }
};
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

async function start(): Promise<void> {
  if ("serviceWorker" in navigator) {
    await navigator.serviceWorker.register("./sw.js").catch(() => undefined);
    if (!crossOriginIsolated && !sessionStorage.getItem("reloaded")) {
      await navigator.serviceWorker.ready;
      sessionStorage.setItem("reloaded", "once"); // now the service worker's headers allow threads
      location.reload();
      return;
    }
  }
  worker.postMessage({ kind: "load", job, base: new URL("./", location.href).href });
  requestAnimationFrame(tick);
}
start();
Object.assign(window, { diffsalMaps: () => maps }); // for tests
