/** The output of several runs side by side. */
import { showLog } from "./logging.js";
import { watch } from "./page.js";

const views = [];
for (const card of document.querySelectorAll(".logs [data-id]")) {
  views.push(showLog(card.querySelector(".log-host"), card.dataset.id, "output.log", ["QUEUED", "SUBMITTED", "RUNNING"].includes(card.dataset.status)));
}
const grow = () => views.forEach((view) => view.following && view.grow());
watch(grow, grow);
