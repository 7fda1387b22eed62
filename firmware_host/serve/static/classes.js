// Teaching: a button a class, held while the device is to learn; names, undo, and thumbnails of what was taught.
import { element, pause, post, say, send } from "./net.js";
import { live, picture } from "./live.js";
import { text } from "./strings.js";

const list = document.getElementById("classes");
const taught = document.getElementById("taught");
const newName = document.getElementById("new-name");
const THUMBNAILS = 24;
const APART = 150; // ms between two lessons of one hold
let holding = null;

export function showClasses(classes) {
  if (holding && holding.button.isConnected && list.contains(holding.button)) {
    classes.forEach((each) => {
      const small = [...list.children].find((item) => item.dataset.name === each.name)?.querySelector("small");
      if (small) small.textContent = text.images(each.images);
    });
    return; // the button that is held must stay where it is
  }
  const focused = document.activeElement?.closest?.("#classes li")?.dataset.name;
  const which = document.activeElement?.dataset?.does;
  list.replaceChildren(...classes.map(row));
  const again = [...list.children].find((item) => item.dataset.name === focused);
  if (again && which) again.querySelector(`[data-does="${which}"]`)?.focus();
}

function row(each, place) {
  const hold = element("button", { type: "button", className: "hold", "aria-label": text.holdClass(each.name) });
  hold.append(each.name, element("small", { textContent: text.images(each.images) }));
  hold.dataset.does = "hold";
  if (place < 9) hold.setAttribute("aria-keyshortcuts", `${place + 1}`);
  holdable(hold, () => each.name);
  const rename = icon("✎", "rename", text.renameClass(each.name), () => renameClass(each.name));
  const forget = icon("✕", "forget", text.forgetClass(each.name), () => forgetClass(each.name));
  const item = element("li", {}, hold, rename, forget);
  item.dataset.name = each.name;
  return item;
}

function icon(sign, does, label, onclick) {
  const made = element("button", { type: "button", className: "icon", textContent: sign, title: label, onclick });
  made.setAttribute("aria-label", label);
  made.dataset.does = does;
  return made;
}

function holdable(button, nameOf) {
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId); // the page may grow and move the button away under the finger
    begin(button, nameOf);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "blur"]) button.addEventListener(end, stop);
  button.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) begin(button, nameOf);
  });
  button.addEventListener("keyup", stop);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
}

function stop() {
  if (holding) holding.on = false;
}

async function begin(button, nameOf) {
  const name = nameOf();
  if (!name) return say(text.needName);
  if (holding) return;
  const hold = { on: true, button, id: `${Date.now()}-${Math.random().toString(36).slice(2)}` };
  holding = hold;
  button.classList.add("active");
  do {
    const lesson = await teach(name, hold.id);
    if (!lesson) break;
    await pause(APART);
  } while (hold.on);
  button.classList.remove("active");
  holding = null;
  if (button.id === "new-hold") newName.value = "";
  document.dispatchEvent(new Event("changed"));
}

async function teach(label, hold) {
  if (live.source === "browser") {
    const blob = await picture();
    const query = new URLSearchParams({ label, hold });
    return blob && send(`/api/teach?${query}`, blob);
  }
  return post("/api/teach", { label, hold });
}

// Called for every lesson, whichever page taught it.
export function lessonLearned(lesson) {
  if (lesson.rolled_back) say(text.rolledBack);
  const image = element("img", { src: `/api/pictures/${lesson.image}`, alt: text.pictureTaught(lesson.label) });
  const item = element("li", {}, image, lesson.label);
  item.title = lesson.label;
  taught.prepend(item);
  while (taught.children.length > THUMBNAILS) taught.lastChild.remove();
}

export function clearTaught() {
  taught.replaceChildren();
}

async function renameClass(name) {
  const other = await question(text.askName(name), text.rename, name);
  if (other && other !== name) await post("/api/classes/rename", { old: name, new: other });
}

async function forgetClass(name) {
  if (await question(text.askForget(name), text.forget)) await post("/api/classes/forget", { name });
}

// Asks for a name where one is given to start from, else for a yes; resolves to it, or to null.
export function question(words, yes, name = null) {
  const dialog = document.getElementById("ask");
  const input = document.getElementById("ask-name");
  document.getElementById("ask-text").textContent = words;
  document.getElementById("ask-yes").textContent = yes;
  input.hidden = name === null;
  input.value = name ?? "";
  dialog.returnValue = "no";
  dialog.showModal();
  (name === null ? document.getElementById("ask-yes") : input).focus();
  return new Promise((done) =>
    dialog.addEventListener(
      "close",
      () => done(dialog.returnValue === "yes" ? (name === null ? true : input.value.trim()) : null),
      { once: true },
    ),
  );
}

document.getElementById("ask-name").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  document.getElementById("ask").close("yes");
});
document.getElementById("new-class").addEventListener("submit", (event) => event.preventDefault());
holdable(document.getElementById("new-hold"), () => newName.value.trim());
document.getElementById("undo").addEventListener("click", async () => {
  if (await post("/api/undo")) say(text.undone);
});
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input, select")) return;
  const place = "123456789".indexOf(event.key);
  const item = place < 0 || document.getElementById("ask").open ? null : list.children[place];
  if (item) begin(item.querySelector(".hold"), () => item.dataset.name);
});
document.addEventListener("keyup", (event) => "123456789".includes(event.key) && stop());
