// Requests to the device, and what is shown when one fails.
import { text } from "./strings.js";

const message = document.getElementById("message");
let hide = 0;

export function say(words, lasts = 6000) {
  clearTimeout(hide);
  message.textContent = words;
  message.hidden = !words;
  if (words && lasts) hide = setTimeout(() => say(""), lasts);
}

// Returns the answer, or null after saying why there is none; where it must wait, it waits and tries again once.
export async function ask(path, options = {}) {
  for (let attempt = 0; ; attempt += 1) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch {
      say(text.away);
      return null;
    }
    if ((answer.status === 429 || answer.status === 503) && attempt === 0) {
      await pause(1000 * Number(answer.headers.get("retry-after") || 1));
      continue;
    }
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) return found;
    say(found.error || `${answer.status}`);
    return null;
  }
}

export const post = (path, fields = {}) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) });

export const send = (path, blob, type = blob.type) =>
  ask(path, { method: "POST", headers: { "Content-Type": type }, body: blob });

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}
