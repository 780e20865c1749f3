"use strict";
// Players of a card run in step with its first one; sound comes from audio elements of their own, so that it can be moved
// against the picture. Nothing is fetched.
const STEP = 1 / 24, DRIFT = 0.06;

class Card {
  constructor(root) {
    this.root = root;
    this.videos = [...root.querySelectorAll("video")];
    this.sounds = this.videos.map((video) => new Audio(video.currentSrc || video.src));
    this.play = root.querySelector(".play");
    this.seek = root.querySelector(".seek");
    this.time = root.querySelector(".time");
    this.offset = root.querySelector(".offset");
    this.heard = 0;
    if (!this.videos.length) return;
    this.videos.forEach((video, index) => { video.muted = true; this.sounds[index].preload = "metadata"; });
    const first = this.videos[0];
    this.play.addEventListener("click", () => this.toggle());
    first.addEventListener("ended", () => this.pause());
    first.addEventListener("loadedmetadata", () => this.show());
    this.seek.addEventListener("input", () => this.go((this.seek.value / 1000) * (first.duration || 0)));
    this.offset.addEventListener("input", () => this.show(true));
    root.querySelectorAll(".solo").forEach((button, index) =>
      button.addEventListener("click", () => this.solo(this.heard === index ? -1 : index)));
    root.addEventListener("keydown", (event) => this.key(event));
    first.addEventListener("error", () => this.refuse());
    if (first.error) this.refuse();
    this.solo(0);
  }
  get delay() { return Number(this.offset.value) / 1000; }
  get playing() { return !this.videos[0].paused; }
  refuse() {
    this.play.disabled = true;
    this.play.textContent = "Play";
    this.time.textContent = "This browser cannot play the file.";
  }
  toggle() { this.playing ? this.pause() : this.start(); }
  start() {
    if (this.videos[0].error) return;
    Card.current?.pause();
    Card.current = this;
    if (this.videos[0].ended) this.go(0);
    this.videos.forEach((video) => video.play().catch(() => {}));
    this.play.textContent = "Pause";
    this.tick();
  }
  pause() {
    [...this.videos, ...this.sounds].forEach((media) => media.pause());
    this.play.textContent = "Play";
    this.show();
  }
  go(seconds) {
    const end = this.videos[0].duration || 0;
    this.videos.forEach((video) => { video.currentTime = Math.min(Math.max(0, seconds), end); });
    this.show(true);
  }
  solo(index) {
    this.heard = index;
    this.root.querySelectorAll(".solo").forEach((button, at) => {
      button.setAttribute("aria-pressed", String(at === index));
      button.textContent = at === index ? "Heard" : "Muted";
    });
    this.show(true);
  }
  tick() {
    if (!this.playing) return;
    this.show();
    requestAnimationFrame(() => this.tick());
  }
  show(moved) {
    if (this.videos[0].error) return;
    const lead = this.videos[0], now = lead.currentTime, end = lead.duration || 0;
    this.videos.slice(1).forEach((video) => {
      if (Math.abs(video.currentTime - now) > DRIFT) video.currentTime = now;
    });
    this.sounds.forEach((sound, index) => {
      const at = now - this.delay, audible = index === this.heard && this.playing && at >= 0 && at < (sound.duration || end);
      if (!audible) { sound.pause(); return; }
      if (moved || sound.paused || Math.abs(sound.currentTime - at) > DRIFT) sound.currentTime = at;
      if (sound.paused) sound.play().catch(() => {});
    });
    if (document.activeElement !== this.seek) this.seek.value = end ? (1000 * now) / end : 0;
    this.time.textContent = `${now.toFixed(2)} / ${end.toFixed(2)} s`;
    this.root.querySelector(".moved").textContent = `${this.delay >= 0 ? "+" : ""}${Math.round(this.delay * 1000)} ms`;
    this.root.querySelectorAll(".cursor").forEach((line) => {
      const x = Number(line.dataset.left) + (Number(line.dataset.width) * now) / (Number(line.dataset.seconds) || 1);
      line.setAttribute("x1", x); line.setAttribute("x2", x);
    });
  }
  key(event) {
    if (event.target.matches("select, input[type=range]") && event.key.startsWith("Arrow")) return;
    const now = this.videos[0].currentTime;
    const actions = {
      " ": () => this.toggle(), k: () => this.toggle(),
      ArrowLeft: () => this.go(now - 0.5), ArrowRight: () => this.go(now + 0.5),
      ",": () => this.go(now - STEP), ".": () => this.go(now + STEP), "0": () => this.go(0),
    };
    if (!actions[event.key] || (event.key === " " && event.target.matches("button, summary"))) return;
    event.preventDefault();
    actions[event.key]();
  }
}

function filter() {
  const category = document.getElementById("category")?.value ?? "", state = document.getElementById("state")?.value ?? "";
  let shown = 0;
  document.querySelectorAll(".card").forEach((card) => {
    const fits = (!category || card.dataset.category === category) && (!state || card.dataset.states.split(" ").includes(state));
    card.classList.toggle("hidden", !fits);
    shown += fits;
  });
  const count = document.getElementById("count");
  if (count) count.textContent = `${shown} ${shown === 1 ? "clip" : "clips"}`;
}

document.querySelectorAll(".card").forEach((root) => new Card(root));
document.querySelectorAll("#category, #state").forEach((select) => select.addEventListener("change", filter));
filter();
