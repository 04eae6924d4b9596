// A program that the type checker must accept, except where it says that an error is expected.
import { type Answer, Classifier, Engine } from "./index.js";

async function main(): Promise<void> {
  const classifier: Classifier = await Classifier.load("model.tflite");
  const answers: Answer[] = classifier.predict(document.createElement("canvas"), { top: 3 });
  const engine: Engine = await Engine.load(new Uint8Array(8), { maxMemory: 1 << 20 });
  console.log(answers, engine.preprocessing?.mean);
  for (const model of [classifier, engine]) model.free();
  // @ts-expect-error: an engine does not classify images.
  const wrong: Classifier = await Engine.load("model.tflite");
  // @ts-expect-error: only load() makes engines.
  new Engine();
}

main();
