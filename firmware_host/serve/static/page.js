// Puts the page together: texts, what is known, and what the device tells as it happens.
import { ask, say, send } from "./net.js";
import { cameraOfDevice, choose, layOut, live, seen, showFrame } from "./live.js";
import { clearTaught, lessonLearned, question, showClasses } from "./classes.js";
import { showMemory, showUnits } from "./inside.js";
import { showRecent } from "./recent.js";
import { text } from "./strings.js";

const EVERY = 3000; // ms

for (const [data, set] of [
  ["text", (node, words) => (node.textContent = words)],
  ["label", (node, words) => node.setAttribute("aria-label", words)],
  ["alt", (node, words) => (node.alt = words)],
  ["placeholder", (node, words) => (node.placeholder = words)],
]) {
  for (const node of document.querySelectorAll(`[data-${data}]`)) set(node, text[node.dataset[data]]);
}
document.title = text.title;

let revision = null;

async function showStatus() {
  const status = await ask("/api/status");
  if (!status) return;
  document.getElementById("status").textContent = text.status(status);
  live.tellsUnknown = status.tells_unknown;
  if (status.revision !== revision) {
    revision = status.revision;
    await showKnown();
  }
}

async function showKnown() {
  const found = await ask("/api/classes");
  if (!found) return;
  const names = found.classes.map((each) => each.name);
  if (names.join("\n") !== live.classes.join("\n") || !document.getElementById("bars").children.length) {
    layOut(found.classes, live.tellsUnknown);
  }
  showClasses(found.classes);
}

// Shows again what a change may have changed; several changes close together are shown once.
function soon(work, ms) {
  let due = 0;
  return () => {
    if (!due) due = setTimeout(() => ((due = 0), work()), ms);
  };
}
const known = soon(() => (showStatus(), showMemory()), 150);
const units = soon(() => showUnits(), 300);
const recent = soon(() => showRecent(), 1500);

const events = new EventSource("/api/events");
const told = {
  prediction: (data) => (seen(data), data.image !== null && recent()),
  frame: (data) => live.source === "device" && showFrame(data.frame),
  lesson: (data) => (lessonLearned(data), known(), units()),
  change: (data) => {
    if (data.change === "undo" || data.change === "import") clearTaught();
    known();
    units();
    recent();
  },
  reset: (data) => showUnits(data.units),
  rollback: () => say(text.rolledBack),
  unsaved: (data) => say(text.unsaved(data.error), 0),
  camera: (data) => say(data.error ? text.cameraLost(data.error) : "", 0),
};
for (const [kind, work] of Object.entries(told)) {
  events.addEventListener(kind, (event) => work(JSON.parse(event.data)));
}
let lost = false;
events.addEventListener("error", () => {
  lost = true;
  say(text.away, 0);
});
events.addEventListener("open", () => {
  if (lost) say("");
  lost = false;
  revision = null;
  showStatus();
});

document.addEventListener("changed", known);
document.getElementById("use-device").addEventListener("click", () => choose("device").then(() => showFrame(-1)));
document.getElementById("use-browser").addEventListener("click", () => choose("browser"));
document.getElementById("restore").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (file && (await question(text.askRestore(file.name), text.restore))) {
    if (await send("/api/state", file, "application/octet-stream")) say(text.restored);
  }
  event.target.value = "";
});

const camera = await cameraOfDevice();
document.getElementById("use-device").hidden = !camera;
if (camera?.error) say(text.cameraLost(camera.error), 0);
await showStatus();
showMemory();
showUnits();
showRecent();
setInterval(showStatus, EVERY);
await choose(camera ? "device" : "browser");
