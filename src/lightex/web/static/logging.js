/** The output of a run, in a view of its own. */
import { LogView } from "./log.js";
import { ask, at } from "./page.js";

/** @param {HTMLElement} host with a height @param {string} id of the run @param {string} name of the file @param {boolean} follow */
export const showLog = (host, id, name, follow) => new LogView(host, {
  follow,
  async fetchRange(from, to) {
    const answer = await fetch(at(`api/run/${id}/log`, { name, from, to }));
    if (answer.status === 404) return { bytes: new Uint8Array(), size: 0 }; // it has not printed anything yet
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return { bytes: new Uint8Array(await answer.arrayBuffer()), size: Number(answer.headers.get("x-size")) };
  },
  async search(text, from, { backward, regex }) {
    const words = (regex ? text.split("|") : [text]).map((word) => ["text", word]);
    return (await ask(`api/run/${id}/log/search`, [...words, ["name", name], ["from", from], ["back", backward ? "1" : ""]])).at ?? -1;
  },
});
