"use strict";
// One pair at a time: play, answer, send. The server names the models only after the vote.
const byId = (id) => document.getElementById(id);
const left = byId("left"), right = byId("right"), questions = [...document.querySelectorAll(".question")];
let key = null, at = 0, answers = {};

async function ask(path, options) {
  const reply = await fetch(path, options), value = await reply.json();
  if (!reply.ok) throw new Error(value.error);
  return value;
}
function say(text) { byId("said").textContent = text; }
function hear(side) {
  for (const video of [left, right]) video.muted = video.id !== side;
  document.querySelectorAll(".solo").forEach((button) => {
    const heard = button.dataset.side === side;
    button.setAttribute("aria-pressed", String(heard));
    button.textContent = heard ? "heard" : "hear";
  });
}
function toggle() {
  if (left.paused) {
    if (left.ended) go(0);
    for (const video of [left, right]) video.play().catch(() => {});
    byId("play").textContent = "Pause";
    follow();
  } else {
    for (const video of [left, right]) video.pause();
    byId("play").textContent = "Play";
  }
}
function go(seconds) { for (const video of [left, right]) video.currentTime = seconds; }
function follow() {
  if (Math.abs(right.currentTime - left.currentTime) > 0.06 && !right.ended) right.currentTime = left.currentTime;
  byId("seek").value = left.duration ? (1000 * left.currentTime) / left.duration : 0;
  if (!left.paused) requestAnimationFrame(follow);
}
function mark(index) {
  at = Math.max(0, Math.min(questions.length - 1, index));
  questions.forEach((question, other) => question.classList.toggle("marked", other === at));
}
function answer(index, value) {
  answers[questions[index].dataset.question] = value;
  questions[index].querySelectorAll("button").forEach((button) =>
    button.setAttribute("aria-pressed", String(button.dataset.answer === value)));
  byId("send").disabled = Object.keys(answers).length < questions.length;
  mark(index + 1);
}
async function next() {
  const pair = await ask("pair");
  key = pair.key;
  answers = {};
  document.querySelectorAll(".question button").forEach((button) => button.setAttribute("aria-pressed", "false"));
  byId("send").disabled = true;
  byId("play").textContent = "Play";
  left.src = `media/${key}/left`;
  right.src = `media/${key}/right`;
  byId("progress").textContent =
    pair.done < pair.total
      ? `${pair.done} of ${pair.total} pairs have votes`
      : `All ${pair.total} pairs have votes; more make the ratings surer.`;
  mark(0);
  hear("left");
}
async function send() {
  if (byId("send").disabled) {
    say(`Answer all ${questions.length} questions first, or skip the pair.`);
    return;
  }
  byId("send").disabled = true;
  try {
    const named = await ask(`vote/${key}`, { method: "POST", body: JSON.stringify(answers) });
    say(`Kept. Left was ${named.left}, right was ${named.right}.`);
  } catch (problem) {
    byId("send").disabled = false;
    say(`Not kept: ${problem.message}`);
    return;
  }
  await Promise.all([next(), standings()]).catch((problem) => say(`Kept, but there is no next pair: ${problem.message}`));
}
async function standings() {
  const { ratings, left_out } = await ask("standings/overall"), table = document.createElement("table");
  const row = (cells, tag) => {
    const line = table.insertRow();
    for (const text of cells) { const cell = document.createElement(tag); cell.textContent = text; line.append(cell); }
  };
  row(["model", "Elo", "Bradley-Terry", "95 %", "votes"], "th");
  for (const one of ratings) {
    const interval = one.low === null ? "– (the votes do not say)" : `${one.low.toFixed(0)} to ${one.high.toFixed(0)}`;
    row([one.model, one.elo.toFixed(0), one.bradley_terry.toFixed(0), interval, one.votes], "td");
  }
  const remarks = document.createElement("p");
  remarks.textContent = left_out.join("; ");
  byId("standings").replaceChildren(ratings.length ? table : "No votes yet.", remarks);
}
questions.forEach((question, index) => question.querySelectorAll("button").forEach((button) =>
  button.addEventListener("click", () => answer(index, button.dataset.answer))));
document.querySelectorAll(".solo").forEach((button) => button.addEventListener("click", () => hear(button.dataset.side)));
byId("play").addEventListener("click", toggle);
byId("send").addEventListener("click", send);
byId("skip").addEventListener("click", () => next().catch((problem) => say(problem.message)));
byId("seek").addEventListener("input", () => go((byId("seek").value / 1000) * (left.duration || 0)));
left.addEventListener("ended", () => { right.pause(); byId("play").textContent = "Play"; });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  const onButton = event.target.matches("button");
  const actions = {
    1: () => answer(at, "left"), 2: () => answer(at, "tie"), 3: () => answer(at, "right"),
    ArrowUp: () => mark(at - 1), ArrowDown: () => mark(at + 1), m: () => hear(left.muted ? "left" : "right"),
    ...(onButton ? {} : { " ": toggle, Enter: send }),
  };
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});
Promise.all([next(), standings()]).catch((problem) => say(problem.message));
