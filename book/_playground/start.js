// A chapter's figure before it is live. Where one of its texts was worked out beforehand, it comes when the reader gets
// near; else one button loads the playground, and the model with it. The page carries no more than this.

(function (root) {
  const button = root.querySelector("button");
  const { files, folder, stamp } = root.dataset;

  function load(name) {
    const style = name.endsWith(".css");
    const made = document.createElement(style ? "link" : "script");
    Object.assign(made, style ? { rel: "stylesheet" } : { async: false }); // scripts run in their order
    made[style ? "href" : "src"] = folder + name + stamp;
    made.onerror = () => {
      button.textContent = `${name} could not be loaded. Reload the page. Of a book on your disk, check that the folder is complete.`;
      button.hidden = false;
    };
    document.head.append(made);
  }

  const loadAll = () => files.split(" ").forEach(load);
  button.onclick = () => {
    button.disabled = true;
    button.textContent = "Loading…"; // from then on app.js says how far it is
    root.dataset.pressed = "";
    loadAll();
  };
  if (!("stored" in root.dataset)) return (button.hidden = false);
  const near = new IntersectionObserver(
    ([place]) => {
      if (!place.isIntersecting) return;
      near.disconnect();
      loadAll();
    },
    { rootMargin: "50% 0px" },
  );
  near.observe(root);
})(document.currentScript.previousElementSibling);
