// Says of a video where it is, and does with it what a viewer asks for.
//
// find() returns the <video>, another one later on if the page changes it, or nothing. tell(state) gets {posemamba:
// "state", number, time, shown, playing, rate} whenever anything changed: `time` is currentTime, `shown` the time that the
// frame on screen has itself (null: not known), `number` that of the last seek obeyed. Returns {obey, report, stop}; obey
// takes {posemamba: "play" | "pause"}, {posemamba: "loop", loop}, {posemamba: "rate", rate}, {posemamba: "seek", time, number}.
function followVideo(find, tell) {
  let watched = null, shown = null, number = 0;
  const stops = new AbortController();
  const report = () => {
    const video = find();
    if (!video || video.readyState < 1) return;
    watch(video);
    const playing = !video.paused && !video.ended;
    tell({ posemamba: "state", number, time: video.currentTime, shown, playing, rate: video.playbackRate });
  };
  const watch = (video) => {
    if (video === watched) return;
    watched = video;
    shown = null;
    const next = () =>
      video.requestVideoFrameCallback
        ? video.requestVideoFrameCallback((_, frame) => step(frame.mediaTime))
        : requestAnimationFrame(() => step(null));
    const step = (mediaTime) => {
      if (stops.signal.aborted || video !== watched || !video.isConnected) return;
      shown = mediaTime;
      if (shown !== null || !video.paused) report();
      next();
    };
    next();
  };
  for (const type of ["play", "pause", "ended", "seeking", "seeked", "timeupdate", "ratechange", "loadedmetadata"]) {
    const heard = (event) => {
      if (event.target !== find()) return;
      if (type === "seeking" || type === "loadedmetadata") shown = null;
      report();
    };
    document.addEventListener(type, heard, { capture: true, signal: stops.signal }); // they do not bubble
  }
  const obey = (message) => {
    const video = find();
    if (!video) return;
    if (message.posemamba === "play") video.play().catch(report);
    if (message.posemamba === "pause") video.pause();
    if (message.posemamba === "loop") video.loop = message.loop === true;
    if (message.posemamba === "rate" && message.rate > 0 && message.rate <= 4) video.playbackRate = message.rate;
    if (message.posemamba === "seek" && Number.isFinite(message.time)) {
      number = message.number;
      shown = null;
      video.currentTime = Math.max(0, message.time);
    }
  };
  return { obey, report, stop: () => stops.abort() };
}
