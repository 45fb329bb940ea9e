// The page: a portrait, a voice and wishes go to the server, and what it answers is shown.

import { FileVoice, MicrophoneVoice } from "/page/voice.js";
import { RtcWay, SocketWay } from "/page/way.js";

const $ = (id) => document.getElementById(id);
const GAZE = 30; // degrees at the edge of the pad
const CHANGES = 120; // milliseconds between two messages of change, at least
const SLOW = 3, MANY = 12; // seconds in a row with so many late frames each, after which it is said
const NEUTRAL = { gaze: [0, 0], emotion: "", strength: 0.6, distance: 1, amplitude: 1 };

let portraits = [], chosen = null, way = null, voice = null, wishes = structuredClone(NEUTRAL), refusedPicture = null, slow = 0, lateBefore = 0;

// Status

function tell(text, kind = "idle") {
  $("status").textContent = text;
  $("status").dataset.kind = kind;
}

// Portraits

async function loadPortraits() {
  const response = await fetch("/portraits");
  portraits = (await response.json()).portraits;
  if (!portraits.some(({ id }) => id === chosen)) chosen = portraits[0]?.id;
  $("portraits").replaceChildren(...portraits.map(thumbnail));
  showStill();
}

function thumbnail({ id, url, own }, i) {
  const label = document.createElement("label"), input = document.createElement("input"), image = new Image();
  Object.assign(input, { type: "radio", name: "portrait", value: id, checked: id === chosen });
  Object.assign(image, { src: url, alt: own ? "Your picture" : `Portrait ${i + 1}` });
  input.addEventListener("change", () => {
    chosen = id;
    showStill();
    if (way) start();
  });
  label.append(input, image);
  return label;
}

function showStill() {
  const portrait = portraits.find(({ id }) => id === chosen);
  if (portrait) $("still").src = portrait.url;
}

async function upload(file, whole) {
  $("unfound").hidden = true;
  tell("Reading the picture …");
  const response = await fetch(`/portraits${whole ? "?whole=1" : ""}`, { method: "POST", body: file, headers: { "Content-Type": "image/*" } });
  const answer = await response.json();
  if (!response.ok) {
    tell("Not this picture", "error");
    $("unfound").firstElementChild.textContent = answer.message;
    refusedPicture = file;
    $("whole").hidden = whole || response.status !== 422;
    $("unfound").hidden = false;
    return;
  }
  chosen = answer.id;
  await loadPortraits();
  tell("Ready");
  if (way) start();
}

// A session

async function start() {
  stop();
  const byFile = $("by-file").checked, file = $("sound").files[0];
  if (byFile && !file) {
    $("sound").click();
    return;
  }
  tell("Connecting …");
  running(true);
  try {
    voice = byFile ? await FileVoice.open(file, $("at-once").checked) : await MicrophoneVoice.open();
  } catch (error) {
    fail(error.message);
    return;
  }
  slow = lateBefore = 0;
  mute(!byFile); // one's own voice, a moment later, confuses
  const Way = $("by-rtc").checked ? RtcWay : SocketWay;
  const events = {
    ready() {
      tell("Live", "live");
      $("interrupt").disabled = false;
    },
    state: show,
    error({ message, fatal, retry_after: after }) {
      if (fatal) fail(after ? `All places are taken. Try again in ${Math.ceil(after)} s.` : message);
      else tell(message, "error");
    },
    closed() {
      if (way === mine) stop();
    },
  };
  const mine = way = new Way($("face"), events);
  mine.open(chosen, voice, controls());
}

function stop() {
  const was = way;
  way = null;
  was?.close();
  voice?.close();
  voice = null;
  $("face").classList.remove("shown");
  $("interrupt").disabled = true;
  running(false);
  if ($("status").dataset.kind !== "error") tell("Ready");
}

function fail(message) {
  tell(message, "error");
  stop();
}

function running(on) {
  $("start").textContent = on ? "Stop" : "Start";
  $("start").classList.toggle("running", on);
  document.body.dataset.running = on;
}

function mute(off) {
  $("face").muted = off;
  $("mute").setAttribute("aria-pressed", off);
  $("mute").textContent = off ? "Sound on" : "Sound off";
}

function show({ latency, late, dropped }) {
  slow = late > lateBefore + MANY ? slow + 1 : 0;
  lateBefore = late;
  if ($("status").dataset.kind === "live") tell(slow > SLOW ? "Live, but the server is too slow" : "Live", "live");
  if (latency) {
    $("latency").textContent = `${Math.round(latency.p50)} ms`;
    $("tail").textContent = `95 % within ${Math.round(latency.p95)} ms`;
  }
  $("late").textContent = late;
  $("dropped").textContent = dropped;
  $("buffer").textContent = way?.behind === undefined ? "–" : `${Math.round(1000 * way.behind)} ms`;
}

// Wishes

function controls() {
  const { gaze, emotion, strength, distance, amplitude } = wishes;
  return { gaze, distance, amplitude, emotion: emotion ? `${emotion}:${strength}` : null };
}

let due = 0, timer = 0;

function changed() {
  const { gaze: [right, up], strength, distance, amplitude } = wishes;
  $("dot").style.left = `${50 + 50 * right / GAZE}%`;
  $("dot").style.top = `${50 - 50 * up / GAZE}%`;
  const words = [right && `${Math.abs(right)}° ${right > 0 ? "right" : "left"}`, up && `${Math.abs(up)}° ${up > 0 ? "up" : "down"}`];
  const text = words.filter(Boolean).join(", ") || "forward";
  $("gaze-text").textContent = text;
  $("pad").setAttribute("aria-valuenow", right);
  $("pad").setAttribute("aria-valuetext", text);
  $("strength-text").textContent = `${Math.round(100 * strength)} %`;
  $("distance-text").textContent = `${distance.toFixed(2)} ×`;
  $("amplitude-text").textContent = `${amplitude.toFixed(2)} ×`;
  clearTimeout(timer);
  timer = setTimeout(() => {
    due = performance.now() + CHANGES;
    way?.say({ type: "change", ease: 250, controls: controls() });
  }, Math.max(0, due - performance.now()));
}

function look(right, up) {
  const within = (value) => Math.round(Math.max(-GAZE, Math.min(GAZE, value)));
  wishes.gaze = [within(right), within(up)];
  changed();
}

function drag(event) {
  if (event.type === "pointerdown") $("pad").setPointerCapture(event.pointerId);
  else if (!event.buttons) return;
  const { left, top, width, height } = $("pad").getBoundingClientRect();
  look(GAZE * (2 * (event.clientX - left) / width - 1), GAZE * (1 - 2 * (event.clientY - top) / height));
}

const STEPS = { ArrowLeft: [-3, 0], ArrowRight: [3, 0], ArrowUp: [0, 3], ArrowDown: [0, -3] };

function lookByKey(event) {
  const [right, up] = wishes.gaze, step = STEPS[event.key];
  if (event.key === "0" || event.key === "Home") look(0, 0);
  else if (step) look(right + step[0], up + step[1]);
  else return;
  event.preventDefault();
}

function reset() {
  wishes = structuredClone(NEUTRAL);
  for (const name of ["emotion", "strength", "distance", "amplitude"]) $(name).value = wishes[name];
  changed();
}

// Wiring

$("pad").addEventListener("pointerdown", drag);
$("pad").addEventListener("pointermove", drag);
$("pad").addEventListener("keydown", lookByKey);
for (const name of ["strength", "distance", "amplitude"]) {
  $(name).addEventListener("input", () => {
    wishes[name] = Number($(name).value);
    changed();
  });
}
$("emotion").addEventListener("change", () => {
  wishes.emotion = $("emotion").value;
  changed();
});
$("reset").addEventListener("click", reset);
$("start").addEventListener("click", () => (way || document.body.dataset.running === "true" ? stop() : start()));
$("interrupt").addEventListener("click", () => {
  voice?.interrupt();
  way?.say({ type: "interrupt" });
});
$("mute").addEventListener("click", () => mute(!$("face").muted));
$("face").addEventListener("playing", () => $("face").classList.add("shown"));
$("picture").addEventListener("change", () => {
  if ($("picture").files[0]) upload($("picture").files[0], false);
  $("picture").value = "";
});
$("whole").addEventListener("click", () => upload(refusedPicture, true));
$("sound").addEventListener("change", () => {
  $("sound-name").textContent = $("sound").files[0]?.name ?? "Choose a sound …";
});
for (const radio of document.querySelectorAll("[name=voice]")) {
  radio.addEventListener("change", () => {
    $("file-part").hidden = !$("by-file").checked;
  });
}
window.addEventListener("pagehide", stop);

reset();
mute(false);
loadPortraits().catch(() => tell("The server does not answer", "error"));
