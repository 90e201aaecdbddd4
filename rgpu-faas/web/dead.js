// Jobs that failed for good: done again, or given up, one by one or all.

import { button, h, say, sure } from "./dom.js";
import { json, mayChange, path, post, remove } from "./ask.js";
import { jobTable } from "./jobs.js";

export async function showDead(element, _, signal) {
  const { jobs } = await json("system/dead-letter", { signal });
  const again = async (words) => {
    element.replaceChildren();
    await showDead(element, [], signal);
    say(words);
  };
  const actions = mayChange() && jobs.length > 0 && [
    button("Replay all", async () => {
      const answer = await post("system/dead-letter/replay");
      const left = answer.without_function.length;
      await again(`${Object.keys(answer.replayed).length} jobs are done again${left ? `, ${left} have no function any more` : ""}`);
    }, { class: "strong" }),
    button("Give all up", async () => {
      if (!await sure(`Give ${jobs.length} dead letters up? Nobody will be reminded of them.`, "Give up")) return;
      await remove("system/dead-letter");
      await again("all are given up");
    }, { class: "danger" }),
  ];
  const act = (job) => mayChange() && h("div", { class: "row" },
    button("Replay", async () => { await post(path("system", "dead-letter", job.id, "replay")); await again("the job is done again"); }, { "aria-label": `Replay ${job.function} ${job.id.slice(0, 8)}` }),
    button("Give up", async () => { await remove(path("system", "dead-letter", job.id)); await again("it is given up"); }, { "aria-label": `Give ${job.function} ${job.id.slice(0, 8)} up` }));
  element.append(h("section", { "aria-labelledby": "dead-title" },
    h("div", { class: "row" }, h("h2", { id: "dead-title", class: "grow" }, "Dead letters"), actions),
    h("p", { class: "soft" }, "Jobs that failed for good, until they are done again or given up."),
    jobTable(jobs, "There is none.", [
      ["Reason", "long", (job) => (job.reason || "").split("\n")[0]],
      ["", "brief", act],
    ])));
}
