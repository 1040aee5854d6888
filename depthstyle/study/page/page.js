"use strict";

const base = location.pathname.replace(/\/$/, "");
const sides = ["left", "right"];
const part = (id) => document.getElementById(id);
let shown = null;

function show(id) {
  for (const name of ["welcome", "choice", "thanks"]) part(name).hidden = name !== id;
}

function notice(text) {
  part("notice").textContent = text;
  part("notice").hidden = !text;
}

// Ask until an answer comes: a lost connection or a restarting server loses no vote, because the
// server takes the same vote twice.
async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  for (let pause = 500; ; pause = Math.min(2 * pause, 8000)) {
    try {
      const response = await fetch(base + path, options);
      if (response.status < 500) {
        notice("");
        return response;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
    notice("No connection. Your answers are kept; trying again …");
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

async function load(position, name) {
  const response = await ask(`/picture/${position}/${name}`);
  return URL.createObjectURL(await response.blob());
}

// Pictures of a pair, fetched once; the next pair is fetched while the respondent looks at this one.
const pairs = new Map();
function pictures(position) {
  if (!pairs.has(position)) {
    const names = ["content", ...sides];
    pairs.set(position, Promise.all(names.map((name) => load(position, name))));
  }
  return pairs.get(position);
}

function forget(position) {
  const urls = pairs.get(position);
  pairs.delete(position);
  if (urls) urls.then((list) => list.forEach(URL.revokeObjectURL));
}

async function advance(state) {
  shown = null;
  if (state.answered >= state.total) return show("thanks");
  const position = state.answered + 1;
  show("choice");
  part("pictures").classList.add("waiting");
  part("progress").textContent = `${position} of ${state.total}`;
  part("done").style.width = `${(100 * state.answered) / state.total}%`;
  const images = [part("content"), ...sides.map((side) => part(side).firstElementChild)];
  const urls = await pictures(position);
  images.forEach((image, i) => (image.src = urls[i]));
  await Promise.all(images.map((image) => image.decode()));
  arrange();
  // Both appear in one frame; the one that came first would draw the eye.
  part("pictures").classList.remove("waiting");
  forget(position - 1);
  shown = position;
  if (position < state.total) pictures(position + 1);
}

// Side by side or one above the other, whichever shows the pictures larger.
function arrange() {
  const { clientWidth: width, clientHeight: height } = part("pictures");
  const image = part("left").firstElementChild;
  const fit = (w, h) => Math.min(w / image.naturalWidth, h / image.naturalHeight);
  const stacked = fit(width, height / 2) > fit(width / 2, height);
  part("pictures").classList.toggle("stacked", stacked);
}

async function choose(side) {
  if (shown === null) return;
  const position = shown;
  shown = null;
  part(side).classList.add("chosen");
  const [response] = await Promise.all([
    ask("/vote", { position, side }),
    new Promise((resolve) => setTimeout(resolve, 150)),
  ]);
  part(side).classList.remove("chosen");
  part(side).blur();
  // A refusal means that another tab of this link went on; the state says where.
  await advance(await (response.ok ? response : await ask("/state")).json());
}

async function start() {
  const state = await (await ask("/state")).json();
  part("question").textContent = state.question;
  document.querySelector("#welcome h1").textContent = state.question;
  part("count").textContent = state.total === 1 ? "one pair" : `${state.total} pairs`;
  if (state.consented) return advance(state);
  show("welcome");
  part("begin").addEventListener("click", async () => {
    advance(await (await ask("/consent", {})).json());
  });
}

const keys = { ArrowLeft: "left", ArrowUp: "left", ArrowRight: "right", ArrowDown: "right" };
document.addEventListener("keydown", (event) => {
  if (shown === null || !(event.key in keys) || event.repeat) return;
  event.preventDefault();
  choose(keys[event.key]);
});
for (const side of sides) part(side).addEventListener("click", () => choose(side));
addEventListener("resize", arrange);
start();
