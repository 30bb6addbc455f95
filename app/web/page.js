// The page: a form, a job, its results. All state is in the address (?job=ID); all work is done by the server's /jobs.
"use strict";
const $ = (selector) => document.querySelector(selector);
const POLL_MS = 700, UPLOAD_SHARE = 0.05, TITLE = document.title, KEY = "posemamba-jobs";
let current = null, file = null, request = null, drawn = "";

const text = (selector, content) => { if ($(selector).textContent !== content) $(selector).textContent = content; };
const jobInAddress = () => new URLSearchParams(location.search).get("job");
const duration = (s) => (s < 90 ? `${Math.max(1, Math.round(s))} s` : `${Math.round(s / 60)} min`);
const clock = (s) => new Date(Date.now() + 1000 * s).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function show(view) {
  document.body.dataset.view = view;
  for (const name of ["input", "work", "results"]) $(`#${name}`).hidden = name !== view;
  $("#earlier").hidden = view === "work" || !$("#earlier li");
}

function notice(sentence) {
  text("#notice", sentence);
  $("#notice").hidden = !sentence;
}

async function ask(path, method = "GET", body = null) {
  const answer = await fetch(path, { method, body, cache: "no-store" });
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const { detail } = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(typeof detail === "string" ? detail : `The server answers ${answer.status}.`), { status: answer.status });
}

// A job, from its first moment to its results.

function open(id) {
  if (jobInAddress() !== id) history.pushState(null, "", `?job=${encodeURIComponent(id)}`);
  watch();
}

async function watch() {
  const id = jobInAddress();
  current = id;
  notice("");
  if (!id) return reset();
  while (current === id) {
    try {
      const job = await ask(`jobs/${encodeURIComponent(id)}`);
      if (current !== id) return;
      if (render(job)) return;
    } catch (error) {
      if (current !== id) return;
      if (error.status) {
        forget(id);
        return home(error.message);
      }
      text("#detail", "the server does not answer; trying again"); // it may be back, or the network
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

function home(sentence) {
  history.pushState(null, "", location.pathname);
  current = null;
  reset();
  notice(sentence);
}

function reset() {
  document.title = TITLE;
  drawn = "";
  list();
  show("input");
}

function render(job) {
  remember(job);
  if (job.status === "done") {
    results(job);
    return true;
  }
  if (job.status === "failed" || job.status === "cancelled") {
    forget(job.id);
    home(job.status === "failed" ? job.error : "Cancelled. The video and everything made of it are gone.");
    return true;
  }
  const isQueued = job.status === "queued";
  const left = job.seconds_left === null ? "" : `about ${duration(job.seconds_left)} left`;
  working(job.name, isQueued ? "Waiting in the queue" : job.stage, [job.detail, left].filter(Boolean).join(", "),
    UPLOAD_SHARE + (1 - UPLOAD_SHARE) * job.progress, !job.is_example);
  return false;
}

function working(name, stage, detail, share, canCancel = true) {
  text("#work-name", name);
  text("#stage", stage);
  text("#detail", detail);
  $("#bar").value = share;
  $("#cancel").hidden = !canCancel;
  document.title = `${Math.floor(100 * share)} % ${name}`;
  if ($("#work").hidden) show("work");
}

function results(job) {
  document.title = `Done: ${job.name}`;
  const count = job.people.length, who = count === 1 ? "1 person" : `${count} people`;
  text("#summary", count ? `${job.name}: ${who}, done in ${duration(job.seconds)}` : job.name);
  const until = job.expires_in_s === null ? "An example; it stays." : `Kept until ${clock(job.expires_in_s)}, unless the server is stopped; this address leads here until then.`;
  text("#kept", [until, job.settings.join(", ")].filter(Boolean).join(" "));
  $("#delete").hidden = job.is_example;
  notice(job.notice);
  $("#results").classList.toggle("empty", count === 0);
  if (drawn !== job.id) {
    drawn = job.id;
    if (count) fill(job);
    show("results");
    scrollTo(0, 0);
  }
}

function fill(job) {
  const overlay = job.files.find((each) => each.name.endsWith(".overlay.mp4"));
  const video = $("#overlay video");
  $("#overlay").hidden = !overlay;
  $("#overlay").style.aspectRatio = `${job.width} / ${job.height}`; // only the picture: 3D is in the viewer beside it
  if (overlay) video.src = overlay.url;
  const zip = job.files.find((each) => each.name.endsWith(".zip"));
  Object.assign($("#zip"), { href: zip.url, download: zip.name });
  const groups = Map.groupBy ? Map.groupBy(job.files, (each) => each.group) : group(job.files);
  groups.delete(zip.group);
  $("#files").replaceChildren(...[...groups].map(([name, files]) => make("div", {}, make("h4", { textContent: name }), ...files.map(link))));
  $("#warnings").replaceChildren(...(job.warnings.length ? job.warnings : ["Nothing to warn of."]).map((each) => make("li", { textContent: each })));
  text("#made-by", `${job.frames} frames; ${job.made_by}`);
  people(job);
}

function group(files) {
  const groups = new Map();
  for (const each of files) groups.set(each.group, [...(groups.get(each.group) || []), each]);
  return groups;
}

function link(each) {
  const size = each.bytes < 1e6 ? `${Math.ceil(each.bytes / 1e3)} kB` : `${(each.bytes / 1e6).toFixed(1)} MB`;
  return make("p", {}, make("a", { href: each.url, download: each.name, textContent: each.name }), make("small", { textContent: `${each.about}, ${size}` }));
}

function people(job) {
  const several = job.people.length > 1;
  text("#people-title", several ? `${job.people.length} people ${job.chosen_from ? "kept" : "found"}; click whom to keep` : `1 person ${job.chosen_from ? "kept" : "found"}`);
  $("#people").replaceChildren(...job.people.map((person) => {
    const picture = person.picture ? make("img", { src: person.picture, alt: "", width: 96, height: 96 }) : make("span", { className: "blank" });
    const label = `${person.from_s.toFixed(1)} to ${person.to_s.toFixed(1)} s`;
    const button = make("button", { type: "button", value: person.id, className: "person", disabled: !several }, picture, make("b", { textContent: `person ${person.id}` }), make("small", { textContent: label }));
    button.setAttribute("aria-pressed", "false");
    button.onclick = () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      $("#keep").disabled = chosen().length === 0 || chosen().length === job.people.length;
    };
    return button;
  }));
  $("#choice").hidden = !several && !job.chosen_from;
  $("#keep").hidden = !several;
  $("#keep").disabled = true;
  $("#everybody").hidden = !job.chosen_from;
  $("#everybody").href = `?job=${encodeURIComponent(job.chosen_from)}`;
}

const chosen = () => [...document.querySelectorAll("#people [aria-pressed=true]")].map((button) => button.value);

// Sending a video.

function choose(next) {
  file = next;
  notice("");
  $("#chosen").hidden = $("#start").disabled = !file;
  $("#chosen").hidden = !file;
  $("#unplayable").hidden = true;
  $("#preview").hidden = false;
  URL.revokeObjectURL($("#preview").src);
  if (!file) return;
  $("#preview").src = URL.createObjectURL(file);
  text("#file-name", `${file.name}, ${(file.size / 1e6).toFixed(1)} MB`);
  const most = Number(document.body.dataset.maxBytes);
  if (file.size > most) {
    notice(`${file.name} has ${Math.round(file.size / 1e6)} MB, expected at most ${most / 1e6} MB; cut it into shorter clips or compress it more.`);
    $("#start").disabled = true;
  }
}

function send(body, name) {
  notice("");
  current = null;
  request = new XMLHttpRequest();
  working(name, "Uploading", "", 0);
  request.upload.onprogress = ({ loaded, total }) => working(name, loaded < total ? "Uploading" : "Checking the file", `${Math.round((100 * loaded) / total)} %`, (UPLOAD_SHARE * loaded) / total);
  request.onload = () => {
    let answer = {};
    try { answer = JSON.parse(request.responseText); } catch { /* a proxy's page */ }
    if (request.status === 201) return open(answer.id);
    reset();
    $("#unplayable").hidden = true;
    notice(typeof answer.detail === "string" ? answer.detail : `The server answers ${request.status}; try again later.`);
  };
  request.onerror = () => { reset(); notice("The server does not answer; is it still running?"); };
  request.open("POST", "jobs");
  request.send(body);
}

function submit(event) {
  event.preventDefault();
  if (!file) return;
  const body = new FormData();
  for (const [name, value] of new FormData($("#form"))) body.append(name, value);
  body.append("video", file, file.name);
  send(body, file.name);
}

async function cancel() {
  const id = current;
  if (!id) { // still uploading
    request.abort();
    reset();
    return notice("Cancelled. Nothing was kept.");
  }
  current = null;
  text("#stage", "Cancelling ...");
  await remove(id, "Cancelled. The video and everything made of it are gone.");
}

async function remove(id, sentence) {
  try {
    await ask(`jobs/${encodeURIComponent(id)}`, "DELETE");
  } catch (error) {
    if (error.status !== 404) return notice(error.message);
  }
  forget(id);
  choose(null);
  $("#file").value = "";
  $("#overlay video").removeAttribute("src");
  home(sentence);
}

async function record() {
  if (record.stop) return record.stop();
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
    const parts = [], recorder = new MediaRecorder(stream);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      record.stop = null;
      text("#record", "Record with the camera");
      stream.getTracks().forEach((track) => track.stop());
      $("#preview").srcObject = null;
      choose(new File(parts, recorder.mimeType.includes("mp4") ? "recording.mp4" : "recording.webm", { type: recorder.mimeType }));
    };
    record.stop = () => recorder.stop();
    $("#chosen").hidden = false;
    $("#preview").srcObject = stream;
    $("#preview").play();
    recorder.start();
    text("#record", "Stop recording");
  } catch {
    notice("There is no camera that this page may use; record with another program and choose the file.");
  }
}

// The list of this browser's jobs.

const known = () => { try { return JSON.parse(localStorage.getItem(KEY)) || []; } catch { return []; } };
const store = (jobs) => { try { localStorage.setItem(KEY, JSON.stringify(jobs.slice(0, 20))); } catch { /* private mode */ } };
const forget = (id) => store(known().filter((job) => job.id !== id));

function remember({ id, name, is_example }) {
  if (!is_example && !known().some((job) => job.id === id)) store([{ id, name }, ...known()]);
}

async function list() {
  const rows = [];
  for (const { id, name } of known()) {
    try {
      const job = await ask(`jobs/${encodeURIComponent(id)}`);
      const state = job.status === "done" ? `${job.people.length} found, kept until ${clock(job.expires_in_s)}` : job.status;
      rows.push(make("li", {}, make("a", { href: `?job=${encodeURIComponent(id)}`, textContent: name }), ` ${state}`));
    } catch (error) {
      if (error.status === 404) forget(id);
    }
  }
  $("#earlier ul").replaceChildren(...rows);
  $("#earlier").hidden = !rows.length || document.body.dataset.view === "work";
}

const theme = matchMedia("(prefers-color-scheme: dark)");
const setTheme = () => document.body.classList.toggle("dark", theme.matches);
theme.addEventListener("change", setTheme);
setTheme();
$("#options").open = innerWidth > 760;
$("#file").onchange = (event) => choose(event.target.files[0] || null);
$("#preview").onerror = () => { if (file) { $("#unplayable").hidden = false; $("#preview").hidden = true; } };
$("#preview").onloadedmetadata = ({ target }) => {
  const most = Number(document.body.dataset.maxS);
  if (Number.isFinite(target.duration) && target.duration > most + 1) {
    notice(`${file.name} lasts ${duration(target.duration)}, at most ${duration(most)} are taken: choose a part under Options, From and To.`);
    $("#options").open = true;
  }
};
for (const type of ["dragover", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    if (type === "drop" && event.dataTransfer.files.length && !$("#input").hidden) choose(event.dataTransfer.files[0]);
  });
}
$("#form").onsubmit = submit;
$("#cancel").onclick = cancel;
$("#delete").onclick = () => remove(current, "Deleted. The video and everything made of it are gone.");
$("#record").onclick = record;
$("#record").hidden = !(navigator.mediaDevices && window.MediaRecorder);
$("#keep").onclick = async () => {
  try { open((await ask(`jobs/${current}/people/${chosen().join(",")}`, "POST")).id); } catch (error) { notice(error.message); }
};
$("#examples").onclick = ({ target }) => {
  const button = target.closest("[data-example]");
  if (!button) return;
  const body = new FormData();
  body.append("example", button.dataset.example);
  send(body, "Example");
};
addEventListener("popstate", watch);
linkViewer("#viewer iframe", "#overlay video");
fillViewer("#viewer iframe", '#files a[href$=".viewer.html"]');
watch();
