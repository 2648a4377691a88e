/** Doing something about runs: asked where it should be, told what came of it. */
import { element } from "./format.js";
import { menu } from "./menu.js";
import { ask, send, toast, told } from "./page.js";

const $ = (id) => document.getElementById(id);

/** Asks, if there is something to ask, then does it. @param {object} what of api/act, besides `do` */
export const act = told(async (word, what, question = "") => {
  if (question && !(await sure(question))) return;
  const { told: words } = await send("api/act", { do: word, ...what });
  toast(words, "good");
});

function sure(question) {
  const dialog = $("sure");
  $("sure-title").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => (dialog.onclose = () => done(dialog.returnValue === "ok")));
}

/** A text is one text, also with what means something in an override: commas would make a sweep. */
function written(value, text) {
  const quote = typeof value === "string" && /[,()[\]{}"']|^\s|\s$/.test(text) ? ['"', "'"].find((mark) => !text.includes(mark)) ?? "" : "";
  return quote + text + quote;
}

/** A dialog with the parameters of a run; what is changed goes into a new one. */
export const clone = told(async (id) => {
  const { runs: [run] } = await ask("api/runs", { q: `run = "${id}"`, archived: "1" });
  const dialog = $("cloner"), params = Object.entries(run.params).filter(([name]) => name.startsWith("hp."));
  const inputs = new Map(params.map(([name, value]) => {
    const text = typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? ""), input = element("input", "input", "", { "aria-label": name });
    input.value = text;
    return [name, { input, text, value }];
  }));
  $("cloner-params").replaceChildren(...[...inputs].flatMap(([name, { input }]) => [element("dt", "", name), element("dd", "", [input])]));
  $("cloner-more").value = "";
  $("cloner-error").hidden = true;
  dialog.returnValue = "";
  dialog.showModal();
  dialog.querySelector("form").onsubmit = async (event) => {
    if (event.submitter?.value !== "ok") return;
    event.preventDefault(); // it stays open where the config refuses
    event.submitter.disabled = true;
    try {
      const overrides = [...inputs].filter(([, { input, text }]) => input.value !== text).map(([name, { input, value }]) => `${name}=${written(value, input.value)}`);
      overrides.push(...$("cloner-more").value.split("\n").map((line) => line.trim()).filter(Boolean));
      const { told: words } = await send("api/act", { do: "clone", runs: [run.id], overrides });
      dialog.close();
      toast(words, "good");
    } catch (error) {
      $("cloner-error").textContent = [error.message, ...(error.details ?? [])].join("\n");
      $("cloner-error").hidden = false;
    } finally {
      event.submitter.disabled = false;
    }
  };
});

/** What there is to do about one run in its state. @returns {[string, () => void][]} */
export function deeds(id, name, state) {
  const runs = [id], ended = !["QUEUED", "SUBMITTED", "RUNNING"].includes(state);
  return [
    ...(ended ? [] : [["Stop", () => act("stop", { runs }, `End ${name}? It gets SIGTERM and its grace.`)], ["Kill", () => act("kill", { runs }, `Kill ${name} at once?`)]]),
    ...(ended && state !== "SUCCEEDED" ? [["Retry", () => act("retry", { runs })]] : []),
    ...(state === "QUEUED" ? [["Before all others", () => act("priority", { runs, priority: 100 })], ["After all others", () => act("priority", { runs, priority: -100 })]] : []),
    ["Run it again, changed…", () => clone(id)],
  ];
}

/** The menu of what there is to do about several runs. @param {HTMLElement} button @param {string[]} runs ids */
export function together(button, runs) {
  const some = `${runs.length} run${runs.length === 1 ? "" : "s"}`;
  menu(button, [
    ["Stop those that run or wait", () => act("stop", { runs }, `End what runs or waits of ${some}?`)],
    ["Kill those that run", () => act("kill", { runs }, `Kill what runs of ${some} at once?`)],
    ["Retry those that have not succeeded", () => act("retry", { runs })],
  ]);
}
