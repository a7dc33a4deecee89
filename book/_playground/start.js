// A chapter's figure before it is live: one button, which loads the playground. The page carries no more than this.

(function (root) {
  const button = root.querySelector("button");
  const { files, folder, stamp } = root.dataset;

  function load(name) {
    const style = name.endsWith(".css");
    const made = document.createElement(style ? "link" : "script");
    Object.assign(made, style ? { rel: "stylesheet" } : { async: false }); // scripts run in their order
    made[style ? "href" : "src"] = folder + name + stamp;
    made.onerror = () => (button.textContent = `${name} could not be loaded. Is the book's folder whole?`);
    document.head.append(made);
  }

  button.onclick = () => {
    button.disabled = true;
    files.split(" ").forEach(load);
  };
  button.hidden = false;
})(document.currentScript.previousElementSibling);
