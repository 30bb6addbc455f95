// For a page that shows the viewer in an <iframe> beside a <video>: linkViewer keeps the two in step.
//
// linkViewer("iframe.posemamba-viewer", "#overlay video")
//
// Both are selectors and are looked up when needed: the page may replace either at any time. Seeking, playing and the
// speed of the video move the viewer; the viewer's controls move the video. Messages out: {posemamba: "state", time,
// playing, rate} and {posemamba: "theme", dark}; in: {posemamba: "ready" | "play" | "pause" | "seek" | "rate"}.
function linkViewer(frames, videoSelector, isDark = () => document.body.classList.contains("dark")) {
  const viewers = () => [...document.querySelectorAll(frames)].map((frame) => frame.contentWindow).filter(Boolean);
  const video = () => document.querySelector(videoSelector);
  const tell = (message) => viewers().forEach((viewer) => viewer.postMessage(message, "*"));
  const tellState = (time) => {
    const v = video();
    if (!v || v.readyState < 1) return;
    const playing = !v.paused && !v.ended;
    tell({ posemamba: "state", time: time ?? v.currentTime, playing, rate: v.playbackRate });
  };
  let followed = null;
  const follow = (v) => {
    if (followed === v) return;
    followed = v;
    const next = (callback) =>
      v.requestVideoFrameCallback
        ? v.requestVideoFrameCallback((_, frame) => callback(frame.mediaTime))
        : requestAnimationFrame(() => callback(v.currentTime));
    const step = (time) => {
      if (v.paused || v.ended || v !== video()) {
        followed = null;
        return;
      }
      tellState(time);
      next(step);
    };
    next(step);
  };
  for (const type of ["play", "pause", "ended", "seeking", "seeked", "ratechange", "loadedmetadata"]) {
    const heard = (event) => {
      if (event.target !== video()) return;
      tellState();
      if (type === "play") follow(event.target);
    };
    document.addEventListener(type, heard, true); // media events do not bubble, but they are captured
  }
  const tellTheme = () => tell({ posemamba: "theme", dark: isDark() });
  new MutationObserver(tellTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  window.addEventListener("message", ({ source, data }) => {
    if (!data || !viewers().includes(source)) return;
    if (data.posemamba === "ready") {
      tellTheme();
      tellState();
    }
    const v = video();
    if (!v) return;
    if (data.posemamba === "play") v.play().catch(() => tellState());
    if (data.posemamba === "pause") v.pause();
    if (data.posemamba === "seek" && Number.isFinite(data.time)) v.currentTime = Math.max(0, data.time);
    if (data.posemamba === "rate" && data.rate > 0 && data.rate <= 4) v.playbackRate = data.rate;
  });
}
