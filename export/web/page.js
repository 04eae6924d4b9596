// The script of the page that `r2b export --web` writes. index.js precedes it in the same module.

const at = (id) => document.getElementById(id);
const DIGITS = "0123456789";

/** Decodes the base64 text of an element, and decompresses the result (gzip) if `compressed` is true. */
async function embedded(id, compressed) {
  const bytes = Uint8Array.from(atob(at(id).textContent), (c) => c.charCodeAt(0));
  if (!compressed) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

function sizeInWords(bytes) {
  const [value, unit] = bytes < 1e6 ? [bytes / 1e3, "kB"] : [bytes / 1e6, "MB"];
  return `${value.toFixed(value < 100 ? 1 : 0)}\u00a0${unit}`;
}

function tell(error) {
  at("problem").textContent = error ? error.message ?? String(error) : "";
  at("problem").hidden = !error;
}

/** Classifies an image, and shows the five most probable classes, the most probable first, and the time. */
function show(classifier, image) {
  const answers = classifier.predict(image, { top: 5 });
  const milliseconds = classifier.milliseconds;
  at("time").textContent = milliseconds.toFixed(milliseconds < 10 ? 1 : 0);
  at("hint").hidden = true;
  at("answers").replaceChildren(
    ...answers.map(({ label, probability }) => {
      const item = document.createElement("li");
      const [name, share, bar] = ["span", "b", "i"].map((tag) => document.createElement(tag));
      name.textContent = label;
      share.textContent = `${(100 * probability).toFixed(1)}\u00a0%`;
      bar.style.setProperty("--p", Math.min(Math.max(probability, 0), 1));
      item.append(name, share, bar);
      return item;
    }),
  );
  tell(null);
}

function clearAnswers(words) {
  at("answers").replaceChildren();
  at("hint").textContent = words;
  at("hint").hidden = false;
  at("time").textContent = "–";
}

/** The drawing area. Whenever the pen moves, it classifies the drawing and shows the answers. */
class Drawing {
  constructor(classifier) {
    const { mean, height } = classifier.preprocessing;
    this.classifier = classifier;
    this.canvas = at("draw");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    // If the mean is dark, the training images have bright strokes on a dark background.
    [this.paper, this.ink] = mean[0] < 128 ? ["#000", "#fff"] : ["#fff", "#000"];
    this.isDigits = classifier.labels.join("") === DIGITS;
    // The share of the frame that a digit's longer side takes: as in scikit-learn's images, else as in MNIST's.
    this.fill = height <= 16 ? 1 : 20 / 28;
    this.pen = this.canvas.width / 9;
    this.last = null;
    this.clear();
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.last = this.#place(event);
      this.#stroke(this.last);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.last) return;
      for (const step of event.getCoalescedEvents?.() ?? [event]) this.#stroke(this.#place(step));
    });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => (this.last = null));
  }

  clear() {
    this.context.fillStyle = this.paper;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.box = [Infinity, Infinity, -Infinity, -Infinity];
  }

  #place(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((event.clientX - left) / width) * this.canvas.width, ((event.clientY - top) / height) * this.canvas.height];
  }

  #stroke([x, y]) {
    const { context, pen, box } = this;
    context.strokeStyle = this.ink;
    context.lineWidth = pen;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...this.last);
    context.lineTo(x, y);
    context.stroke();
    this.last = [x, y];
    this.box = [
      Math.min(box[0], x - pen / 2),
      Math.min(box[1], y - pen / 2),
      Math.max(box[2], x + pen / 2),
      Math.max(box[3], y + pen / 2),
    ];
    attempt(() => show(this.classifier, this.image()));
  }

  /** Returns a canvas with the drawing. A digit is centred, and scaled to its size in the network's training images. */
  image() {
    if (!this.isDigits) return this.canvas;
    const side = this.canvas.width;
    const width = this.box[2] - this.box[0];
    const height = this.box[3] - this.box[1];
    const scale = (this.fill * side) / Math.max(width, height);
    this.framed ??= Object.assign(document.createElement("canvas"), { width: side, height: side });
    const context = this.framed.getContext("2d", { willReadFrequently: true });
    context.fillStyle = this.paper;
    context.fillRect(0, 0, side, side);
    const [w, h] = [scale * width, scale * height];
    context.drawImage(this.canvas, this.box[0], this.box[1], width, height, (side - w) / 2, (side - h) / 2, w, h);
    return this.framed;
  }
}

function attempt(body) {
  try {
    body();
  } catch (error) {
    tell(error);
  }
}

/** Reads and classifies a picture file, and shows the picture with the answers. */
async function take(classifier, file) {
  try {
    const bitmap = await createImageBitmap(file).catch(() => {
      throw new Error(`${file.name || "the file"} is not a picture that this browser can read`);
    });
    const picture = at("picture");
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(file);
    picture.hidden = false;
    at("drop").classList.add("chosen");
    show(classifier, bitmap);
    bitmap.close();
  } catch (error) {
    tell(error);
  }
}

/** The webcam. While it is on, its current frame is classified at every repaint of the page. */
class Camera {
  constructor(classifier) {
    this.classifier = classifier;
    this.video = at("camera");
    this.stream = null;
    this.starts = 0;
  }

  async start() {
    const start = ++this.starts;
    try {
      await this.#open(start);
    } catch (error) {
      // If the camera was stopped meanwhile, the user does not need to see the error.
      if (start === this.starts) throw error;
    }
  }

  async #open(start) {
    if (!navigator.mediaDevices?.getUserMedia)
      throw new Error(
        "this browser gives pages from this address no access to the camera: open the page over https or from a file",
      );
    const stream = await navigator.mediaDevices
      .getUserMedia({ video: { facingMode: "environment" }, audio: false })
      .catch((error) => {
        throw new Error(`the webcam cannot be used: ${error.message}`);
      });
    if (start !== this.starts) {
      // The camera was stopped, and perhaps started again, while the user was asked for permission.
      stream.getTracks().forEach((track) => track.stop());
      return;
    }
    this.stream = stream;
    this.video.srcObject = stream;
    await this.video.play();
    const look = () => {
      if (this.stream !== stream) return;
      if (this.video.videoWidth) attempt(() => show(this.classifier, this.video));
      requestAnimationFrame(look);
    };
    look();
  }

  stop() {
    ++this.starts;
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }
}

function wire(classifier) {
  const drawing = new Drawing(classifier);
  const camera = new Camera(classifier);
  const panels = {
    draw: [["draw"], drawing.isDigits ? "Draw a digit with a finger or the mouse" : "Draw with a finger or the mouse", "Clear"],
    picture: [["drop"], "The network sees the centre square", null],
    camera: [["camera"], "The network sees the centre square", null],
  };
  const select = (name) => {
    for (const key of Object.keys(panels)) at(`tab-${key}`).setAttribute("aria-selected", key === name);
    for (const id of ["draw", "drop", "picture", "camera"]) at(id).hidden = true;
    camera.stop();
    drawing.clear();
    at("drop").classList.remove("chosen");
    tell(null);
    const [shown, words, action] = panels[name];
    for (const id of shown) at(id).hidden = false;
    at("below").textContent = words;
    at("action").hidden = !action;
    at("action").textContent = action ?? "";
    at("panel").setAttribute("aria-labelledby", `tab-${name}`);
    clearAnswers({ draw: "Draw something.", picture: "Choose a picture.", camera: "Waiting for the webcam…" }[name]);
    if (name === "camera") camera.start().catch(tell);
  };
  for (const key of Object.keys(panels)) at(`tab-${key}`).addEventListener("click", () => select(key));
  at("action").addEventListener("click", () => {
    drawing.clear();
    clearAnswers("Draw something.");
  });
  at("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) take(classifier, file);
    event.target.value = "";
  });
  at("drop").addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") at("file").click();
  });
  const over = (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", event.type === "dragover");
  };
  for (const type of ["dragover", "dragleave"]) document.addEventListener(type, over);
  document.addEventListener("drop", (event) => {
    over(event);
    const file = event.dataTransfer.files[0];
    if (!file) return;
    select("picture");
    take(classifier, file);
  });
  select(classifier.preprocessing.channels === 1 ? "draw" : "picture");
}

async function main() {
  const model = await embedded("model", false);
  const classifier = await Classifier.load(model, { wasm: await embedded("wasm", true) });
  const { height, width, channels } = classifier.preprocessing;
  at("size").textContent = sizeInWords(classifier.bytes);
  at("classes").textContent = classifier.labels.length.toLocaleString("en");
  at("input").textContent = `${height}×${width}${channels === 1 ? " grey" : ""}`;
  wire(classifier);
}

main().catch((error) => {
  at("hint").textContent = "The network could not be loaded.";
  tell(error);
});
