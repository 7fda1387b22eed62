// Recent predictions, the most doubtful first; a tap says what one really is, which is a lesson.
import { ask, element, post } from "./net.js";
import { live } from "./live.js";
import { text } from "./strings.js";

const list = document.getElementById("recent");
const SHOWN = 8;
const CHOICES = 3;

export async function showRecent() {
  if (list.contains(document.activeElement)) return; // nothing moves away under a finger
  const found = await ask("/api/recent");
  if (!found) return;
  list.replaceChildren(...found.predictions.slice(0, SHOWN).map(row));
  if (!list.children.length) list.append(element("li", { textContent: text.noDoubts, className: "hint" }));
}

function row(each) {
  const label = each.known ? each.label : text.none;
  const share = each.known ? each.probability * (1 - each.none) : each.none;
  const image = element("img", { src: `/api/pictures/${each.image}`, alt: text.pictureSaid(label) });
  const said = element("div", { textContent: text.saidOf(label, `${Math.round(100 * share)} %`) });
  const likely = Object.entries(each.probabilities).sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const choices = element("div", { className: "choices" });
  const item = element("li", {}, image, said, choices);
  const correct = async (name) => {
    if (await post("/api/teach", { label: name, image: each.image })) item.remove();
  };
  for (const name of likely.slice(0, CHOICES)) {
    const onclick = () => correct(name);
    choices.append(element("button", { type: "button", textContent: name, "aria-label": text.correct(name), onclick }));
  }
  if (live.classes.length > CHOICES) choices.append(others(likely.slice(0, CHOICES), correct));
  return item;
}

function others(shown, correct) {
  const select = element("select", { "aria-label": text.otherClass });
  select.append(element("option", { textContent: text.otherClass, value: "" }));
  for (const name of live.classes.filter((each) => !shown.includes(each))) {
    select.append(element("option", { textContent: name, value: name }));
  }
  select.addEventListener("change", () => select.value && correct(select.value));
  return select;
}
