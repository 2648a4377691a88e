/** The output of several runs side by side. */
import { showLog } from "./logging.js";

for (const card of document.querySelectorAll(".logs [data-id]")) {
  showLog(card.querySelector(".log-host"), card.dataset.id, "output.log", ["QUEUED", "SUBMITTED", "RUNNING"].includes(card.dataset.status));
}
