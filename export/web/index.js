/**
 * r2b: runs the 1-bit networks of a `.tflite` file in a browser or in node, with the engine compiled to WebAssembly.
 *
 *     import { Classifier } from "r2b";
 *     const classifier = await Classifier.load("digits.tflite");
 *     const [best] = classifier.predict(canvas);
 *     console.log(best.label, best.probability);
 *
 * index.d.ts has the types, and says what each function does.
 */

/** How a caller may give a file. */
const FORMS = "a URL (in node also a path), a Blob, a Response, an ArrayBuffer or a view of an ArrayBuffer";
/** The types of tensors, by their numbers in the C interface's r2b_type: the name, and the array for the values. */
const TYPES = new Map([
  [1, ["float32", Float32Array]],
  [2, ["int32", Int32Array]],
  [3, ["uint8", Uint8Array]],
  [6, ["bool", Uint8Array]],
  [9, ["int8", Int8Array]],
]);
// Sizes and field offsets of the structs of r2b.h, in bytes, on a 32-bit machine.
const ERROR = 512;
const TENSOR = { bytes: 60, type: 4, rank: 8, dims: 12, size: 44, scale: 48, zeroPoint: 52, name: 56 };
const OPTIONS = { bytes: 40, maxMemory: 16, maxWork: 24 };
const PREPROCESSING = { bytes: 48, height: 0, width: 4, channels: 8, crop: 16, mean: 24, std: 36 };
const IMAGE = { bytes: 24, height: 4, width: 8, channels: 12 };

const isNode = typeof process !== "undefined" && Boolean(process.versions?.node) && typeof window === "undefined";

/** The bytes of a file that a caller gives in any of the FORMS; `what` names the file in errors. */
async function bytesOf(source, what) {
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  if (source instanceof Response) return downloaded(source, what);
  if (typeof source !== "string" && !(source instanceof URL))
    throw new TypeError(`${what} must be given as ${FORMS}; received ${source === null ? "null" : typeof source}`);
  const path = isNode ? pathOf(source) : null;
  if (path === null) return downloaded(await fetch(source).catch((error) => unreadable(what, error)), what);
  const { readFile } = await import(/* @vite-ignore */ /* webpackIgnore: true */ "node:fs/promises");
  return new Uint8Array(await readFile(path).catch((error) => unreadable(what, error)));
}

/** The path or `file:` URL, since node's fetch() can read neither; null for other URLs. */
function pathOf(source) {
  if (String(source).startsWith("file:")) return new URL(source);
  return typeof source === "string" && !/^[a-z][a-z+.-]+:/i.test(source) ? source : null;
}

function unreadable(what, cause) {
  throw new Error(`${what} could not be read: ${cause.message}`, { cause });
}

async function downloaded(response, what) {
  if (!response.ok) throw new Error(`${what} could not be read: ${response.url} answered ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function compiled(bytes) {
  return WebAssembly.compile(bytes).catch((cause) => {
    throw new Error(
      `the compiled engine is damaged, or WebAssembly with SIMD and exceptions does not run here: ${cause.message}`,
      { cause },
    );
  });
}

/** An instance of the compiled engine: its memory, and its functions as JavaScript calls them. */
class Runtime {
  /** A promise of the instance that is shared by all engines loaded without `wasm`. */
  static #shared = null;

  constructor(instance) {
    this.c = instance.exports;
    this.broken = false;
    this.c._initialize();
  }

  static async of(wasm) {
    if (wasm !== undefined) return Runtime.#made(wasm);
    if (!Runtime.#shared || (await Runtime.#shared.catch(() => null))?.broken !== false)
      Runtime.#shared = Runtime.#made(new URL("./r2b.wasm", import.meta.url));
    return Runtime.#shared;
  }

  static async #made(wasm) {
    const module = wasm instanceof WebAssembly.Module ? wasm : await compiled(await bytesOf(wasm, "the engine"));
    let memory;
    // The functions of WASI that the C library imports: an empty environment, a clock, and an exit.
    const wasi = {
      environ_sizes_get(count, size) {
        const view = new DataView(memory.buffer);
        view.setUint32(count, 0, true);
        view.setUint32(size, 0, true);
        return 0;
      },
      environ_get: () => 0,
      clock_time_get(clock, precision, time) {
        const now = clock === 0 ? Date.now() : performance.now();
        new DataView(memory.buffer).setBigUint64(time, BigInt(Math.round(now * 1e6)), true);
        return 0;
      },
      proc_exit(code) {
        throw new WebAssembly.RuntimeError(`the engine ended with status ${code}`);
      },
    };
    const number = (at, length) => Number(new TextDecoder().decode(new Uint8Array(memory.buffer, at, length)));
    const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: wasi, r2b: { number } });
    memory = instance.exports.memory;
    return new Runtime(instance);
  }

  /** A view of all memory. A call that grows the memory invalidates it, so get a new one after each call. */
  get view() {
    return new DataView(this.c.memory.buffer);
  }

  text(at) {
    const bytes = new Uint8Array(this.c.memory.buffer);
    let end = at;
    while (bytes[end]) ++end;
    return new TextDecoder().decode(bytes.subarray(at, end));
  }

  /** Calls `body(at)` with the address of `bytes` zeroed bytes, which are freed afterwards. */
  with(bytes, body) {
    const at = this.c.malloc(Math.max(bytes, 1));
    if (at === 0) throw new Error(`out of memory: the engine has no room for another ${bytes} bytes`);
    try {
      new Uint8Array(this.c.memory.buffer, at, bytes).fill(0);
      return body(at);
    } finally {
      if (!this.broken) this.c.free(at);
    }
  }

  /**
   * Calls a function of the C interface with an r2b_error as its last argument, and throws that error's message if it
   * has one.
   */
  call(name, ...values) {
    if (this.broken) throw new Error("the engine stopped in an earlier call; load the model again");
    return this.with(ERROR, (error) => {
      let result;
      try {
        result = this.c[name](...values, error);
      } catch (trap) {
        this.broken = true; // the call was interrupted and left the engine in an unknown state
        throw new Error(`the engine stopped: ${trap.message}; load the model again`, { cause: trap });
      }
      const failed = this.text(error);
      if (failed) throw new Error(failed);
      return result;
    });
  }
}

const abandoned = new FinalizationRegistry(({ runtime, engine }) => {
  if (!runtime.broken) runtime.c.r2b_engine_free(engine);
});

/** A model that is ready to run. */
export class Engine {
  #runtime;
  #engine;
  #labels;
  #preprocessing;
  #milliseconds = null;

  /** Private: use Engine.load(). */
  constructor(runtime, bytes, { maxMemory = 0, maxWork = 0 } = {}) {
    this.#runtime = runtime;
    this.bytes = bytes.byteLength;
    const model = runtime.with(bytes.byteLength, (at) => {
      new Uint8Array(runtime.c.memory.buffer, at, bytes.byteLength).set(bytes);
      return runtime.call("r2b_model_load", at, bytes.byteLength);
    });
    try {
      this.#labels = Object.freeze(labelsOf(runtime, model));
      this.#preprocessing = preprocessingOf(runtime, model);
      this.#engine = runtime.with(OPTIONS.bytes, (at) => {
        runtime.view.setUint32(at, OPTIONS.bytes, true);
        runtime.view.setBigInt64(at + OPTIONS.maxMemory, BigInt(Math.round(maxMemory)), true);
        runtime.view.setBigInt64(at + OPTIONS.maxWork, BigInt(Math.round(maxWork)), true);
        return runtime.call("r2b_engine_create", model, at);
      });
    } finally {
      if (!runtime.broken) runtime.c.r2b_model_free(model); // the engine keeps what it needs
    }
    abandoned.register(this, { runtime, engine: this.#engine }, this);
  }

  static async load(model, { wasm, ...options } = {}) {
    const [runtime, bytes] = await Promise.all([Runtime.of(wasm), bytesOf(model, "a model")]);
    return new this(runtime, bytes, options);
  }

  get labels() {
    return this.#labels;
  }

  get preprocessing() {
    return this.#preprocessing;
  }

  get milliseconds() {
    return this.#milliseconds;
  }

  get inputs() {
    return this.#tensors("input");
  }

  get outputs() {
    return this.#tensors("output");
  }

  resize(input, shape) {
    const dims = Array.from(shape);
    this.#runtime.with(4 * dims.length, (at) => {
      const view = this.#runtime.view;
      dims.forEach((extent, i) => view.setInt32(at + 4 * i, extent, true));
      this.#call("r2b_engine_resize", input, at, dims.length);
    });
  }

  run(...values) {
    const inputs = this.inputs;
    if (values.length !== inputs.length)
      throw new TypeError(`run() takes an array for each of the model's inputs (${inputs.length}); received ${values.length}`);
    inputs.forEach((tensor, i) => this.#set(i, tensor, values[i]));
    return this.invoke();
  }

  invoke() {
    this._run();
    const results = this.outputs.map((tensor, i) => this.#get(i, tensor));
    return results.length === 1 ? results[0] : results;
  }

  setImage(image, place = 0) {
    const { data, width, height, channels } = pixelsOf(image);
    const runtime = this.#runtime;
    runtime.with(IMAGE.bytes + data.length, (at) => {
      const pixels = at + IMAGE.bytes;
      new Uint8Array(runtime.c.memory.buffer, pixels, data.length).set(data);
      const view = runtime.view;
      view.setUint32(at, pixels, true);
      view.setInt32(at + IMAGE.height, height, true);
      view.setInt32(at + IMAGE.width, width, true);
      view.setInt32(at + IMAGE.channels, channels, true);
      this.#call("r2b_engine_set_image", place, at);
    });
  }

  free() {
    abandoned.unregister(this);
    if (this.#engine && !this.#runtime.broken) this.#runtime.c.r2b_engine_free(this.#engine);
    this.#engine = 0;
  }

  #call(name, ...values) {
    if (!this.#engine) throw new Error("this engine was freed; load the model again");
    return this.#runtime.call(name, this.#engine, ...values);
  }

  #tensors(kind) {
    if (!this.#engine) throw new Error("this engine was freed; load the model again");
    const runtime = this.#runtime;
    const count = runtime.c[`r2b_engine_${kind}s`](this.#engine);
    return runtime.with(TENSOR.bytes, (at) =>
      Array.from({ length: count }, (_, i) => {
        this.#call(`r2b_engine_${kind}`, i, at);
        const view = runtime.view;
        const [type] = TYPES.get(view.getInt32(at + TENSOR.type, true)) ?? ["other"];
        return {
          name: runtime.text(view.getUint32(at + TENSOR.name, true)),
          type,
          shape: Array.from({ length: view.getInt32(at + TENSOR.rank, true) }, (_, d) =>
            view.getInt32(at + TENSOR.dims + 4 * d, true),
          ),
          bytes: view.getUint32(at + TENSOR.size, true),
          scale: view.getFloat32(at + TENSOR.scale, true),
          zeroPoint: view.getInt32(at + TENSOR.zeroPoint, true),
        };
      }),
    );
  }

  #set(index, tensor, values) {
    const [, Values] = arrayOf(tensor);
    if (!(values instanceof Values) && !Array.isArray(values))
      throw new TypeError(
        `input ${index} takes ${tensor.type} values, as a ${Values.name} or a plain array; received ${kindOf(values)}`,
      );
    const own = values instanceof Values ? values : Values.from(values);
    if (own.byteLength !== tensor.bytes)
      throw new RangeError(
        `input ${index} has ${tensor.bytes / Values.BYTES_PER_ELEMENT} values, in the shape ` +
          `[${tensor.shape}]; received ${own.length}`,
      );
    const runtime = this.#runtime;
    runtime.with(own.byteLength, (at) => {
      new Values(runtime.c.memory.buffer, at, own.length).set(own);
      this.#call("r2b_engine_set_input", index, at, own.byteLength);
    });
  }

  #get(index, tensor) {
    const [, Values] = arrayOf(tensor);
    const runtime = this.#runtime;
    return runtime.with(tensor.bytes, (at) => {
      this.#call("r2b_engine_get_output", index, at, tensor.bytes);
      return new Values(runtime.c.memory.buffer.slice(at, at + tensor.bytes));
    });
  }

  // Not #private, since Classifier calls these three methods.
  _check() {
    this.#call("r2b_engine_check_classifier");
  }

  _run() {
    const started = performance.now();
    this.#call("r2b_engine_run");
    this.#milliseconds = performance.now() - started;
  }

  // The values of output 0 as floats, whatever its type.
  _values(count) {
    const runtime = this.#runtime;
    return runtime.with(4 * count, (at) => {
      this.#call("r2b_engine_get_values", 0, at, count);
      return new Float32Array(runtime.c.memory.buffer.slice(at, at + 4 * count));
    });
  }
}

function arrayOf(tensor) {
  for (const entry of TYPES.values()) if (entry[0] === tensor.type) return entry;
  throw new TypeError(`tensor '${tensor.name}' has a type that this module cannot read`);
}

function kindOf(value) {
  return value === null ? "null" : value?.constructor?.name ?? typeof value;
}

function labelsOf(runtime, model) {
  const count = runtime.call("r2b_model_labels", model);
  return Array.from({ length: count }, (_, i) => runtime.text(runtime.call("r2b_model_label", model, i)));
}

/** How images are preprocessed; null if the file does not say. */
function preprocessingOf(runtime, model) {
  return runtime.with(PREPROCESSING.bytes, (at) => {
    try {
      runtime.call("r2b_model_preprocessing", model, at);
    } catch (error) {
      if (!/has no preprocessing metadata/.test(error.message)) throw error;
      return null;
    }
    const view = runtime.view;
    const channels = view.getInt32(at + PREPROCESSING.channels, true);
    const floats = (offset) =>
      Object.freeze(Array.from({ length: channels }, (_, i) => view.getFloat32(at + offset + 4 * i, true)));
    return Object.freeze({
      height: view.getInt32(at + PREPROCESSING.height, true),
      width: view.getInt32(at + PREPROCESSING.width, true),
      channels,
      cropFraction: view.getFloat64(at + PREPROCESSING.crop, true),
      mean: floats(PREPROCESSING.mean),
      std: floats(PREPROCESSING.std),
    });
  });
}

/** The pixels of anything that a canvas can draw, or of an object like an ImageData. */
function pixelsOf(image) {
  if (image?.data && Number.isInteger(image.width) && Number.isInteger(image.height)) return givenPixels(image);
  // An <img>, a <video>, a VideoFrame, and whatever else has a size.
  const width = image?.naturalWidth || image?.videoWidth || image?.displayWidth || image?.width;
  const height = image?.naturalHeight || image?.videoHeight || image?.displayHeight || image?.height;
  if (!(width > 0 && height > 0))
    throw new TypeError(
      "an image must be an ImageData, a canvas, an ImageBitmap, an <img> that is loaded, a <video> that plays or a " +
        `VideoFrame; received ${kindOf(image)}`,
    );
  const context = image.getContext?.("2d") ?? drawn(image, width, height);
  return { data: context.getImageData(0, 0, width, height).data, width, height, channels: 4 };
}

function givenPixels({ data, width, height }) {
  const channels = data.length / (width * height);
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray) || ![1, 3, 4].includes(channels))
    throw new TypeError(
      `an image's data must be a Uint8Array or Uint8ClampedArray with 1, 3 or 4 bytes for each of its ` +
        `${width} x ${height} pixels; received ${kindOf(data)}, ${data.length} values`,
    );
  return { data, width, height, channels };
}

let canvas = null;

function drawn(image, width, height) {
  canvas ??= typeof OffscreenCanvas === "undefined" ? document.createElement("canvas") : new OffscreenCanvas(1, 1);
  canvas.width = width; // this also clears it
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  return context;
}

/** A model with labels and preprocessing, which classifies images. */
export class Classifier extends Engine {
  constructor(runtime, bytes, options) {
    super(runtime, bytes, options);
    try {
      this._check();
    } catch (error) {
      this.free();
      throw error;
    }
  }

  predict(image, { top = 5 } = {}) {
    if (!(Number.isInteger(top) && top >= 1))
      throw new RangeError(`top must be a whole number of at least 1; received ${top}`);
    this.setImage(image);
    this._run();
    // A model for several images has a row of output for each; this image's is the first.
    const size = this.outputs[0].shape.reduce((product, dimension) => product * dimension, 1);
    const values = this._values(size).slice(0, this.labels.length);
    return Array.from(values, (probability, index) => ({ label: this.labels[index], index, probability }))
      .sort((a, b) => b.probability - a.probability || a.index - b.index)
      .slice(0, top);
  }
}
