// Runs jobs with the JavaScript module: `node --expose-gc jobs.mjs INDEX.JS FOLDER` reads the jobs from
// FOLDER/jobs.json, a list of {kind, model, ...}. It writes a list of their results, or errors, to FOLDER/answers.json.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [index, folder] = process.argv.slice(2);
const { Classifier, Engine } = await import(pathToFileURL(index));
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const base64 = (values) => Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("base64");
const sentence = (error) => `${error.name}: ${error.message}`;

const kinds = {
  /** Outputs for one float32 input, in base64. A later run with the same input must give the same outputs. */
  async run({ model, input }) {
    const engine = await Engine.load(model);
    const values = new Float32Array(bytes(input).buffer);
    const outputs = [engine.run(values)].flat().map(base64);
    engine.run(values.map((value) => -value));
    const again = [engine.run(values)].flat().map(base64);
    engine.free();
    if (String(outputs) !== String(again)) throw new Error("a second run gave something else");
    return { outputs };
  },

  /** Labels and probabilities of images, and what the classifier says about its model. */
  async predict({ model, images }) {
    const classifier = await Classifier.load(model);
    const answers = images.map(({ data, width, height }) =>
      classifier.predict({ data: bytes(data), width, height }, { top: 1000 }),
    );
    const { labels, preprocessing, bytes: size } = classifier;
    classifier.free();
    return { answers, labels, preprocessing, size };
  },

  /** The messages with which loading fails as an engine and as a classifier; null where it succeeds. */
  async load({ model }) {
    const told = {};
    for (const kind of [Engine, Classifier])
      told[kind.name] = await kind.load(model).then((loaded) => loaded.free() ?? null, sentence);
    return told;
  },

  /** The messages of wrong calls, by the name of the mistake. */
  async misuse({ model }) {
    const engine = await Engine.load(model);
    const classifier = await Classifier.load(model);
    const gone = await Engine.load(model);
    gone.free();
    gone.free();
    const told = {};
    for (const [name, call] of Object.entries({
      few: () => engine.run(new Float32Array(3)),
      none: () => engine.run(),
      bytes: () => engine.run(new Uint8Array(256)),
      text: () => engine.run("0"),
      shape: () => engine.resize(0, [1, 0, 8, 1]),
      input: () => engine.resize(1, [1, 8, 8, 1]),
      freed: () => gone.run(new Float32Array(64)),
      freedInputs: () => gone.inputs,
      image: () => classifier.predict("cat.jpg"),
      pixels: () => classifier.predict({ data: new Uint8Array(10), width: 3, height: 2 }),
      floats: () => classifier.predict({ data: new Float32Array(64), width: 8, height: 8 }),
      empty: () => classifier.predict({ data: new Uint8Array(0), width: 0, height: 8 }),
      place: () => classifier.setImage({ data: new Uint8Array(64), width: 8, height: 8 }, 1),
      top: () => classifier.predict({ data: new Uint8Array(64), width: 8, height: 8 }, { top: 0 }),
    })) {
      try {
        told[name] = `no error, but ${call()}`;
      } catch (error) {
        told[name] = sentence(error);
      }
    }
    for (const [name, options] of Object.entries({
      memory: { maxMemory: 1000 },
      wasm: { wasm: new Uint8Array([1, 2, 3]) },
    }))
      told[name] = await Engine.load(model, options).then(() => "no error", sentence);
    told.source = await Engine.load(7).then(() => "no error", sentence);
    told.file = await Engine.load(`${model}.none`).then(() => "no error", sentence);
    // After all these errors, the classifier and the engine still work.
    const image = { data: new Uint8Array(64), width: 8, height: 8 };
    told.after = classifier.predict(image).length + engine.run(new Float32Array(64)).length;
    engine.resize(0, [2, 8, 8, 1]);
    told.resized = engine.run(new Float32Array(128)).length;
    return told;
  },

  /** Bytes of the engine's memory after the tenth and the last cycle of loading, running and freeing. */
  async cycles({ model, count }) {
    const file = await readFile(model);
    const sizes = [];
    for (let i = 0; i < count; ++i) {
      const engine = await Engine.load(file);
      engine.run(new Float32Array(64));
      engine.free();
      sizes.push(shared.exports.memory.buffer.byteLength);
    }
    return { early: sizes[9], late: sizes.at(-1) };
  },

  /** Like `cycles`, but with 20 engines per cycle, which are left to the garbage collector instead of being freed. */
  async abandoned({ model, count }) {
    const file = await readFile(model);
    const sizes = [];
    for (let i = 0; i < count; ++i) {
      for (let k = 0; k < 20; ++k) (await Engine.load(file)).run(new Float32Array(64));
      global.gc();
      await new Promise((done) => setTimeout(done, 1));
      sizes.push(shared.exports.memory.buffer.byteLength);
    }
    return { early: sizes[9], late: sizes.at(-1) };
  },
};

// The compiled engine that all models of this process share: the first one that index.js instantiates.
let shared = null;
const { instantiate } = WebAssembly;
WebAssembly.instantiate = async (...values) => {
  const made = await instantiate(...values);
  shared ??= made;
  return made;
};

const answers = [];
for (const job of JSON.parse(await readFile(`${folder}/jobs.json`, "utf8")))
  answers.push(await kinds[job.kind](job).catch((error) => ({ error: sentence(error) })));
await writeFile(`${folder}/answers.json`, JSON.stringify(answers));
