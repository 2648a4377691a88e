/** A log of any length: a part of it is on the page, the rest is fetched by byte range. */
import { appendAnsi, folded } from "./ansi.js";
import { element, size } from "./format.js";

const PAGE = 128 * 1024; // bytes fetched at a time
const PAGES = 3; // kept: a Tab goes past every element there is
const BLOCK = 100; // lines, which the browser lays out or skips together
const LONG = 8000; // letters of a line that are shown
const ERRORS = "error|exception|traceback";
/** Buttons and keys: word, title, key, deed, and for a toggle the name of its state. */
const ACTIONS = [
  ["↑", "Previous match", "N", (view) => view.find(true)],
  ["↓", "Next match", "n", (view) => view.find()],
  ["First error", ERRORS.replaceAll("|", ", "), "e", (view) => view.firstError()],
  ["Start", "To the start", "Home", (view) => view.toStart()],
  ["End", "To the end", "End", (view) => view.toEnd()],
  ["Follow", "Stay at the end as it grows", "f", (view) => view.follow(!view.following), "following"],
  ["Wrap", "Wrap long lines", "w", (view) => view.wrap(!view.wrapping), "wrapping"],
  ["Copy", "Copy the selection, or what is loaded", "y", (view) => view.copy()],
];

/** The whole lines of bytes that begin at `first`; whole UTF-8 letters where one line fills them all. */
function whole(bytes, first, atStart, atEnd) {
  let from = atStart ? 0 : bytes.indexOf(10) + 1, to = atEnd ? bytes.length : bytes.lastIndexOf(10) + 1;
  if (from === bytes.length) from = 0; // its only end is its last byte
  if (!from && !atStart) while ((bytes[from] & 0xc0) === 0x80) from += 1;
  if (to <= from) {
    to = bytes.length;
    if (!atEnd) while (to > from && (bytes[to] ?? 0x80) >= 0x80 && (bytes[to] ?? 0x80) < 0xc0) to -= 1;
  }
  return { from: first + from, to: first + to, bytes: bytes.subarray(from, to) };
}

export class LogView {
  /**
   * @param {HTMLElement} host
   * @param {(from: number, to: number) => Promise<{bytes: Uint8Array, size: number}>} options.fetchRange
   *   `size` is that of the whole log
   * @param {(text: string, fromByte: number, how: {backward: boolean, regex: boolean}) => Promise<number>} [options.search]
   *   the byte where the next match begins, at `fromByte` or after it (before it, if backward), or -1; letters of either case
   * @param {boolean} [options.follow] from the start; `grow` is to be called when there may be more
   */
  constructor(host, { fetchRange, search, follow = false }) {
    Object.assign(this, { host, fetchRange, search, size: 0, pages: [], busy: Promise.resolve(), top: 0, found: -1 });
    this.#build();
    this.#press("following", follow);
    /** Settles when something is shown. */
    this.ready = follow ? this.toEnd() : this.toStart();
  }

  #build() {
    const buttons = ACTIONS.map(([word, title, key, act, toggle]) => {
      const node = element("button", "btn plain", word, { type: "button", title: `${title} (${key})` });
      node.onclick = () => { act(this); };
      if (toggle) this[`${toggle}Button`] = node;
      return node;
    });
    this.query = element("input", "input", "", { type: "search", placeholder: "Search the log", "aria-label": "Search the log" });
    this.where = element("span", "where");
    this.text = element("div", "log-text", "", { tabindex: "0", role: "log", "aria-label": "Log", "aria-live": "off" });
    this.query.addEventListener("keydown", (event) => event.key === "Enter" && this.find(event.shiftKey));
    this.text.addEventListener("scroll", () => this.#scrolled());
    this.text.addEventListener("wheel", (event) => event.deltaY < 0 && this.follow(false), { passive: true });
    this.text.addEventListener("keydown", (event) => this.#key(event));
    this.host.classList.add("log");
    this.host.replaceChildren(element("div", "row", [this.query, ...buttons, this.where]), this.text);
    this.#press("wrapping", false);
  }

  /** One thing after the other, since scrolling, growing and jumping all change the pages. @returns {Promise<boolean>} whether it went well */
  #then(work) {
    this.busy = this.busy.then(work).then(() => {
      this.#scrolled();
      return true;
    }, (error) => this.#say(`The log cannot be read: ${error.message}`));
    return this.busy;
  }

  #say(text, live = "polite") {
    this.where.ariaLive = live;
    this.where.textContent = text;
  }

  async #fetch(from, to) {
    const { bytes, size: all } = await this.fetchRange(from, to);
    this.size = all;
    return bytes;
  }

  /** Whole lines as blocks, in front of or behind what is there, and away with what is farthest. */
  #add(page, front = false) {
    if (page.to <= page.from) return;
    const lines = new TextDecoder().decode(page.bytes).split("\n");
    if (lines.at(-1) === "") lines.pop();
    page.box = element("div");
    page.state = front ? {} : (this.pages.at(-1)?.state ?? {}); // a colour may go on from one page to the next
    for (let i = 0; i < lines.length; i += BLOCK) {
      const block = page.box.appendChild(element("div", "log-block")), some = lines.slice(i, i + BLOCK).map((line) => {
        const last = folded(line);
        return last.length > LONG ? `${last.slice(0, LONG)}\x1b[0m … and ${last.length - LONG} letters` : last;
      });
      block.style.containIntrinsicSize = `auto ${some.length * 18}px`;
      page.state = appendAnsi(block, `${some.join("\n")}\n`, page.state);
    }
    const { scrollHeight, scrollTop } = this.text;
    this.pages[front ? "unshift" : "push"](page);
    this.text[front ? "prepend" : "append"](page.box);
    if (front) this.text.scrollTop = scrollTop + this.text.scrollHeight - scrollHeight; // what is read stays where it is
    const view = this.text.getBoundingClientRect(), far = this.pages.at(front ? -1 : 0).box.getBoundingClientRect();
    if (this.pages.length > PAGES && (front ? far.top > view.bottom + 2000 : far.bottom < view.top - 2000)) this.#drop(front);
  }

  #drop(last) {
    const { scrollHeight, scrollTop } = this.text;
    this.pages[last ? "pop" : "shift"]().box.remove();
    if (!last) this.text.scrollTop = scrollTop - (scrollHeight - this.text.scrollHeight);
  }

  get end() {
    return this.pages.at(-1)?.to ?? 0;
  }

  /** Adds the next page, or the one from a byte on. An unfinished line is a page of its own: it comes again when longer. */
  async #forward(from = this.end, atStart = true, anew = false) {
    const bytes = await this.#fetch(from, from + PAGE), atEnd = from + bytes.length >= this.size, page = whole(bytes, from, atStart, atEnd);
    if (anew) this.text.replaceChildren();
    if (anew) this.pages = [];
    const cut = atEnd ? page.bytes.lastIndexOf(10) + 1 : 0;
    if (cut) this.#add({ from: page.from, to: page.from + cut, bytes: page.bytes.subarray(0, cut) });
    this.#add({ from: page.from + cut, to: page.to, bytes: page.bytes.subarray(cut), open: atEnd });
    return bytes.length > 0;
  }

  async #backward() {
    const to = this.pages[0].from, from = Math.max(0, to - PAGE);
    this.#add(whole(await this.#fetch(from, to), from, from === 0, true), true);
  }

  /** Shows the log from about a byte on. */
  #load(byte) {
    const from = Math.max(0, byte - PAGE / 4);
    return this.#forward(from, from === 0, true);
  }

  async #toSize() {
    while (this.end < this.size && await this.#forward());
    if (this.following) this.text.scrollTop = this.text.scrollHeight;
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.text;
    this.#tell();
    this.#mark();
    if (this.loading || !this.pages.length) return;
    const up = scrollTop < 600 && this.pages[0].from > 0, down = scrollHeight - scrollTop - clientHeight < 1200 && this.end < this.size;
    if (!up && !down) return;
    this.loading = true;
    this.#then(() => (up ? this.#backward() : this.#forward()).finally(() => { this.loading = false; }));
  }

  /** Tells where in the log the reader is. */
  #tell() {
    const edge = this.text.getBoundingClientRect().top, boxes = this.pages.map((page) => page.box.getBoundingClientRect());
    const i = boxes.findIndex((box) => box.bottom > edge), page = this.pages[i];
    if (page) this.top = Math.floor(page.from + (page.to - page.from) * Math.max(0, (edge - boxes[i].top) / boxes[i].height));
    const atEnd = this.end >= this.size && this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 4;
    const share = atEnd ? "end" : `${Math.floor((100 * this.top) / this.size)} %`;
    this.#say(this.size ? `${share} of ${size(this.size)}` : "empty", "off"); // every scroll changes it
  }

  toStart() {
    this.follow(false);
    return this.#then(async () => {
      await this.#load(0);
      this.text.scrollTop = 0;
    });
  }

  toEnd() {
    return this.#then(async () => {
      await this.#fetch(0, 1); // how long it is by now
      await this.#load(this.size);
      await this.#toSize();
      this.text.scrollTop = this.text.scrollHeight;
    });
  }

  /** Reads what was written since. */
  grow() {
    return this.#then(async () => {
      const before = this.size, last = this.pages.at(-1), atEnd = this.end >= before;
      await this.#fetch(0, 1);
      if (this.size === before || !atEnd) return;
      if (this.size < before || this.size - before > 2 * PAGE) await this.#load(this.size); // begun anew, or far ahead
      else if (last?.open) {
        this.#drop(true);
        await this.#forward(last.from);
      }
      await this.#toSize();
    });
  }

  #press(name, on) {
    this[name] = on;
    this[`${name}Button`].setAttribute("aria-pressed", String(on));
  }

  follow(on) {
    const more = on && !this.following;
    this.#press("following", on);
    return more ? this.toEnd() : this.busy;
  }

  wrap(on) {
    this.#press("wrapping", on);
    this.text.classList.toggle("wrap", on);
  }

  async copy() {
    const chosen = String(getSelection());
    await navigator.clipboard.writeText(chosen || this.text.textContent);
    this.#say(chosen ? "the selection is copied" : "what is loaded is copied");
  }

  firstError() {
    return this.find(false, ERRORS, true);
  }

  /** Goes to the next match, or the one before, and begins anew at the other end. */
  async find(backward = false, text = this.query.value, regex = false) {
    if (!text) return;
    this.follow(false);
    const well = await this.#then(async () => {
      const from = regex ? 0 : this.found < 0 ? this.top : this.found + (backward ? 0 : 1), how = { backward, regex };
      this.found = await this.search(text, from, how);
      if (this.found < 0 && !regex) this.found = await this.search(text, backward ? this.size : 0, how);
      this.pattern = new RegExp(regex ? text : text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"), "gi");
      if (this.found >= 0) await this.#show(this.found);
    });
    if (well && this.found < 0) this.#say(`nothing found for ${text}`);
  }

  async #show(byte) {
    const holds = (page) => byte >= page.from && byte < page.to, middle = (rect) => {
      this.text.scrollTop += rect.top - this.text.getBoundingClientRect().top - this.text.clientHeight / 2;
    };
    if (!this.pages.some(holds)) await this.#load(byte);
    const page = this.pages.find(holds);
    if (!page) return;
    const line = page.bytes.subarray(0, byte - page.from).filter((b) => b === 10).length, block = page.box.children[Math.floor(line / BLOCK)];
    const start = block.textContent.split("\n", line % BLOCK).reduce((n, one) => n + one.length + 1, 0);
    middle(block.getBoundingClientRect());
    this.#mark();
    const match = this.#matches(block).find(([at]) => at >= start)?.[1];
    if (!match) return;
    middle(match.getBoundingClientRect());
    CSS.highlights?.set("log-now", Object.assign(new Highlight(match), { priority: 1 }));
  }

  /** The matches in a block, each as its place in the text and as a range. */
  #matches(block) {
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    let node = walker.nextNode(), past = 0;
    const spot = (place) => {
      for (; place > past + node.length; node = walker.nextNode()) past += node.length;
      return [node, place - past];
    };
    return [...block.textContent.matchAll(this.pattern)].map(({ 0: { length }, index }) => {
      const range = new Range();
      range.setStart(...spot(index));
      range.setEnd(...spot(index + length));
      return [index, range];
    });
  }

  /** Highlights the matches about where the reader is, without touching a node. */
  #mark() {
    if (!this.pattern || !CSS.highlights) return;
    const view = this.text.getBoundingClientRect(), near = (block) => {
      const box = block.getBoundingClientRect();
      return box.bottom > view.top - 500 && box.top < view.bottom + 500;
    };
    const blocks = this.pages.flatMap((page) => [...page.box.children]).filter(near);
    CSS.highlights.set("log-match", new Highlight(...blocks.flatMap((block) => this.#matches(block).map(([, range]) => range))));
  }

  #key(event) {
    const act = event.key === "/" ? () => this.query.focus() : ACTIONS.find(([, , key]) => key === event.key)?.[3];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act(this);
  }

  destroy() {
    this.host.replaceChildren();
  }
}
