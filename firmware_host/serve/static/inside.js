// The hidden units, and how much of what was learned is still there.
import { ask, element } from "./net.js";
import { text } from "./strings.js";

const strip = document.getElementById("units");
const FLASH = 1500; // ms

export async function showUnits(reset = []) {
  const found = await ask("/api/units");
  if (!found) return;
  const most = Math.max(...found.utility, 1e-12);
  while (strip.children.length < found.utility.length) strip.append(element("i"));
  found.utility.forEach((utility, unit) => {
    strip.children[unit].style.opacity = 0.08 + 0.92 * Math.sqrt(Math.max(utility, 0) / most);
  });
  const used = found.utility.filter((utility) => utility > 0.01 * most).length;
  strip.setAttribute("aria-label", text.unitsSay(found.utility.length, used));
  for (const unit of reset) {
    const cell = strip.children[unit];
    cell.classList.add("reset");
    cell.style.opacity = 1;
    setTimeout(() => cell.classList.remove("reset"), FLASH);
  }
}

export async function showMemory() {
  const found = await ask("/api/memory");
  if (!found) return;
  const known = found.accuracy !== null;
  document.getElementById("memory").value = known ? found.accuracy : 0;
  document.getElementById("memory-text").textContent = known ? `${Math.round(100 * found.accuracy)} %` : text.noMemory;
}
