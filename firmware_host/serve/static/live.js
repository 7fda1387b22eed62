// The live picture, from the device's camera or this browser's, and the bars beside it.
import { ask, element, pause, say, send } from "./net.js";
import { text } from "./strings.js";

const frame = document.getElementById("frame");
const video = document.getElementById("video");
const bars = document.getElementById("bars");
const canvas = document.createElement("canvas");
const SIDE = 320; // pixels of a picture that is sent
const APART = 100; // ms between two of them

export const live = { source: null, classes: [], tellsUnknown: false };
let shownFrame = 0;

export async function choose(source) {
  if (source === live.source) return;
  if (source === "browser" && !(await openCamera())) return;
  if (source !== "browser" && video.srcObject) {
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  }
  live.source = source;
  video.hidden = source !== "browser";
  frame.hidden = source !== "device";
  document.getElementById("no-picture").hidden = source !== null;
  document.getElementById("use-device").setAttribute("aria-pressed", source === "device");
  document.getElementById("use-browser").setAttribute("aria-pressed", source === "browser");
  if (source === "browser") predictAlways();
}

async function openCamera() {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    await video.play();
    return true;
  } catch (error) {
    say(text.noCamera(error.name || "no permission"), 15000);
    return false;
  }
}

// The middle square of the browser's picture, as a JPEG; what the device would cut out itself.
export function picture() {
  const side = Math.min(video.videoWidth, video.videoHeight);
  if (!side) return Promise.resolve(null);
  canvas.width = canvas.height = Math.min(side, SIDE);
  const left = (video.videoWidth - side) / 2;
  const top = (video.videoHeight - side) / 2;
  canvas.getContext("2d").drawImage(video, left, top, side, side, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
}

async function predictAlways() {
  while (live.source === "browser") {
    const blob = document.hidden || !live.classes.length ? null : await picture();
    const found = blob && (await send("/api/predict", blob));
    if (found) show(found);
    await pause(found ? APART : 1000);
  }
}

// A prediction of the device's camera: its bars, and the picture that belongs to it once the last one is drawn.
export function seen(prediction) {
  if (live.source !== "device" || prediction.source !== "camera") return;
  show(prediction);
  showFrame(prediction.frame);
}

export function showFrame(number) {
  if (!frame.complete || document.hidden || number === shownFrame) return;
  shownFrame = number;
  frame.src = `/api/frame?number=${number}`;
}

export function layOut(classes, tellsUnknown) {
  live.classes = classes.map((each) => each.name);
  live.tellsUnknown = tellsUnknown;
  const rows = live.classes.map((name) => row(name, ""));
  if (tellsUnknown) rows.push(row(text.none, "none"));
  bars.replaceChildren(...rows);
  if (!live.classes.length) bars.append(element("li", { textContent: text.nothingKnown }));
  else if (!tellsUnknown) bars.append(element("li", { className: "hint", textContent: text.noneUnknown }));
}

function row(name, kind) {
  const fill = element("div", { className: "fill" });
  const track = element("div", { className: "track", "aria-hidden": "true" }, fill);
  const share = element("span", { className: "share", textContent: "–" });
  return element("li", { className: kind }, element("span", { className: "name", textContent: name }), share, track);
}

function show(found) {
  const shares = live.classes.map((name) => (found.probabilities[name] ?? 0) * (1 - found.none));
  if (live.tellsUnknown) shares.push(found.none);
  const most = shares.indexOf(Math.max(...shares));
  shares.forEach((share, place) => {
    const item = bars.children[place];
    if (!item) return;
    item.querySelector(".share").textContent = `${Math.round(100 * share)} %`;
    item.querySelector(".fill").style.width = `${100 * share}%`;
    item.classList.toggle("first", place === most);
  });
  if (found.offered) say(text.offered(found.alike), 3000);
}

export async function cameraOfDevice() {
  const status = await ask("/api/status");
  return status ? status.camera : null;
}
