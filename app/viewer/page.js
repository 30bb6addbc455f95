// viewer.html: a header, the viewer, and a video of the user's if there is no page around.
function mountPage() {
  const contents = JSON.parse(document.getElementById("contents").textContent);
  document.title = `${contents.name} \u00b7 3D viewer`;
  const isEmbedded = window.parent !== window;
  const facts = [
    `${contents.num_frames} frames`, `${trimmed(Number(contents.fps.toFixed(3)))} fps`,
    contents.people.length === 1 ? "1 person" : `${contents.people.length} people`,
  ];
  const main = element("main", { className: "pm-page" });
  document.body.append(main);
  if (!isEmbedded) {
    main.append(element("header", { className: "pm-header" },
      element("h1", { title: contents.name }, element("bdi", { textContent: contents.name })),
      element("p", { textContent: facts.join(" \u00b7 ") })));
  }
  const viewer = mountViewer(main, contents, { keys: document });
  if (!isEmbedded && contents.people.length) main.querySelector(".pm-header").append(videoButton(viewer));
  window.viewer = viewer;
  window.mountViewer = mountViewer;
  tellHost({ posemamba: "ready" });
}

// A button that puts a video beside the skeleton: the overlay, or the clip itself. The file stays in the browser.
function videoButton(viewer) {
  const pick = element("input", { type: "file", accept: "video/*", hidden: true, aria: { label: "Video file" } });
  const open = element("button", { type: "button", className: "pm-open", textContent: "Add video\u2026",
    title: "Play overlay.mp4, or the clip itself, in step beside the skeleton", onclick: () => pick.click() });
  const show = (src, isShown = true) => {
    viewer.picture.querySelectorAll("video").forEach((old) => URL.revokeObjectURL(old.src));
    const video = element("video", { src, playsInline: true, preload: "auto" });
    video.muted = true;
    viewer.picture.replaceChildren(video);
    viewer.picture.hidden = !isShown;
    return video;
  };
  pick.onchange = () => pick.files.length && viewer.follow(show(URL.createObjectURL(pick.files[0])));
  if (viewer.data.has_overlay) {
    const video = show("overlay.mp4", false); // beside this page, unless it was sent alone
    video.onloadeddata = () => {
      viewer.picture.hidden = false;
      viewer.follow(video);
    };
  }
  return element("span", {}, pick, open);
}
