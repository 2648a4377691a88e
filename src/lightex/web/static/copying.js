/** Commands to be copied. */
import { askFor } from "./menu.js";
import { toast, told } from "./page.js";

/** Copies a line, or shows it where the browser lets nothing be copied: by plain http from another machine. */
export const copy = told(async (line) => {
  try {
    await navigator.clipboard.writeText(line);
  } catch {
    await askFor("Copy this command", line, true);
    return;
  }
  toast(`copied: ${line}`, "good");
});
