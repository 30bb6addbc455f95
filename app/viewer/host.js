// For a page that shows the viewer in an <iframe> beside a <video>: linkViewer keeps the two in step, for good.
//
//   linkViewer("iframe.posemamba-viewer", "#overlay video");
//
// Both are selectors and are looked up when needed: the page may put up or replace either at any time. Seeking, playing
// and the speed of the video move the viewer; the viewer's controls move the video. Every viewer found gets the messages
// of follow.js, and {posemamba: "theme", dark}; it says {posemamba: "ready"} when it is there.
function linkViewer(frames, videoSelector, isDark = () => document.body.classList.contains("dark")) {
  const viewers = () => [...document.querySelectorAll(frames)].map((frame) => frame.contentWindow).filter(Boolean);
  const tell = (message) => viewers().forEach((viewer) => viewer.postMessage(message, "*"));
  const tellTheme = () => tell({ posemamba: "theme", dark: isDark() });
  const followed = followVideo(() => document.querySelector(videoSelector), tell);
  new MutationObserver(tellTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  window.addEventListener("message", ({ source, data }) => {
    if (!data || !viewers().includes(source)) return;
    if (data.posemamba === "ready") {
      tellTheme();
      followed.report();
    } else {
      followed.obey(data);
    }
  });
  tellTheme();
  followed.report();
}

// Shows the viewer.html that a link leads to in an <iframe>, for good; both are selectors, and either may change.
//
//   fillViewer("iframe.posemamba-viewer", "#downloads a[href$='viewer.html']");
function fillViewer(frameSelector, linkSelector) {
  const look = async () => {
    const frame = document.querySelector(frameSelector), link = document.querySelector(linkSelector);
    if (!frame || !link || frame.dataset.source === link.href) return;
    const source = (frame.dataset.source = link.href);
    const answer = await fetch(source);
    if (frame.dataset.source !== source) return; // another one by now
    if (answer.ok) frame.srcdoc = await answer.text();
    else delete frame.dataset.source; // tried again when something changes
  };
  const changes = { childList: true, subtree: true, attributes: true, attributeFilter: ["href"] };
  new MutationObserver(look).observe(document.body, changes);
  look();
}
