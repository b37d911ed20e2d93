// Puts draft, picture and panel together.

import { Draft } from "./draft.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { said, speak, t } from "./texts.js";

const byId = (id) => document.getElementById(id);

async function begin() {
  const reply = await fetch("begin");
  const begun = await reply.json();
  const image = new Image();
  image.src = "still.png";
  await image.decode();

  const draft = new Draft(begun);
  const picture = new Picture(byId("picture"), byId("loupe"), image, draft);
  const panel = new Panel(draft, picture);

  const language = byId("language");
  const speakIn = (chosen) => {
    speak(chosen);
    language.value = chosen;
    document.documentElement.lang = chosen;
    panel.translate();
  };
  language.addEventListener("change", () => {
    localStorage.setItem("snellius:language", language.value);
    speakIn(language.value);
  });
  const preferred = localStorage.getItem("snellius:language") ?? (navigator.language.startsWith("nl") ? "nl" : "en");
  speakIn(begun.language ?? preferred);

  const show = () => {
    panel.show();
    picture.draw();
  };
  draft.addEventListener("change", show);
  draft.addEventListener("answer", () => {
    show();
    if (draft.kept === "gone") end(t("gone"), t("goneText"));
  });
  picture.addEventListener("choose", () => {
    panel.show();
    panel.follow();
  });
  picture.addEventListener("draw", () => (byId("zoom").textContent = `${Math.round(picture.view.scale * 100)} %`));
  document.addEventListener("settled", () => setTimeout(() => panel.show()));
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.target.matches("input")) {
      event.preventDefault();
      draft.undo();
    }
  });

  byId("save").addEventListener("click", async () => {
    byId("save").disabled = true;
    try {
      const told = await draft.save();
      if (told.status === 200) end(t("savedTitle"), t("savedText", { ...told, folder: begun.folder }));
      else if (told.error) {
        draft.kept = "offline";
        draft.error = told.error;
        panel.show();
      } else draft.change((now) => (now.revision += 1)); // asks again, and shows what has changed meanwhile
    } catch (unreached) {
      draft.kept = "offline";
      panel.show();
      console.warn(unreached);
    }
  });
}

function end(title, text) {
  byId("ended-title").textContent = title;
  byId("ended-text").textContent = said(text);
  byId("ended").hidden = false;
}

begin();
