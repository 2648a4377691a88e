/** The dialog that writes a note and tags on runs, or puts them away. */
import { ask, send, toast } from "./page.js";

const $ = (id) => document.getElementById(id);

/** Tags as lines; what a line cannot hold is left alone. */
const written = (tags) => Object.entries(tags).filter(([name, value]) => !/[=\n]/.test(name) && !value.includes("\n")).map((pair) => pair.join("="));

function tagsOf(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean), wrong = lines.find((line) => !/^[^=]+=/.test(line));
  if (wrong) throw new Error(`not a tag: ${wrong}. Write NAME=VALUE`);
  return new Map(lines.map((line) => [line.slice(0, line.indexOf("=")).trim(), line.slice(line.indexOf("=") + 1).trim() || null]));
}

/** One run's note and tags are shown and may be changed; to several more is added. @param {Map<string, string>} picked id -> label */
export async function note(picked, done) {
  const runs = [...picked.keys()], one = runs.length === 1 ? (await ask("api/runs", { q: `id = "${runs[0]}"`, archived: "1" })).runs[0] : null;
  const had = one ? written(one.tags) : [], away = $("noter-away");
  $("noter-title").textContent = `Note on ${one ? [...picked.values()][0] : `${runs.length} runs`}`;
  $("noter-note").value = one?.note ?? "";
  $("noter-note").placeholder = one ? "" : "empty: their notes stay";
  $("noter-tags").value = had.join("\n");
  [away.checked, away.indeterminate] = [Boolean(one?.archived), !one];
  $("noter-error").hidden = true;
  $("noter").showModal();
  $("noter").querySelector("form").onsubmit = async (event) => {
    if (event.submitter?.value !== "ok") return;
    event.preventDefault(); // it stays open, with what was written, until it is noted
    try {
      const tags = tagsOf($("noter-tags").value), before = tagsOf(had.join("\n")), value = { runs, tags: {} };
      for (const [name, text] of tags) if (before.get(name) !== text) value.tags[name] = text;
      for (const name of before.keys()) if (!tags.has(name)) value.tags[name] = null;
      if (one ? $("noter-note").value !== one.note : $("noter-note").value) value.note = $("noter-note").value;
      if (!away.indeterminate) value.archived = away.checked;
      const { changed } = await send("api/notes", value);
      $("noter").close();
      toast(`noted on ${changed.length} run${changed.length === 1 ? "" : "s"}`, "good");
      await done();
    } catch (error) {
      $("noter-error").textContent = error.message;
      $("noter-error").hidden = false;
    }
  };
}
