/** What a model, or the compiled engine, can be loaded from. In node a string that is no URL is a path. */
export type Source = string | URL | ArrayBuffer | ArrayBufferView | Blob | Response;

/** Pixels, row by row, of 1 (grey), 3 (red, green, blue) or 4 bytes (red, green, blue, alpha; alpha is ignored). */
export interface Pixels {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
}

/** Anything that a canvas can draw, or pixels such as an ImageData. */
export type ImageSource = Pixels | CanvasImageSource;

export interface LoadOptions {
  /** The compiled engine; default: r2b.wasm beside index.js. One WebAssembly.Module may serve several models. */
  wasm?: Source | WebAssembly.Module;
  /** The most bytes that the engine may take besides the file; default: 2 GiB. */
  maxMemory?: number;
  /** The most work of one inference, in float products; 32 binary products count as one; default: 200e9. */
  maxWork?: number;
}

export interface Tensor {
  name: string;
  type: "float32" | "int32" | "uint8" | "int8" | "bool" | "other";
  shape: number[];
  bytes: number;
  /**
   * For an int8 or uint8 tensor, value = scale * (number - zeroPoint); a scale of 0 means that the file has none. For
   * other types both are 0.
   */
  scale: number;
  zeroPoint: number;
}

export type TensorValues = Float32Array | Int32Array | Int8Array | Uint8Array;

/** How an image becomes the input: its centre square is cut out, resized by bicubic interpolation, and normalised. */
export interface Preprocessing {
  readonly height: number;
  readonly width: number;
  /** 1 (grey) or 3 (red, green, blue). */
  readonly channels: 1 | 3;
  /** The square's side, as a share of the image's shorter side. */
  readonly cropFraction: number;
  /** Per channel, for values of 0 to 255: the result is (value - mean) / std. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/**
 * A model that is ready to run.
 *
 * Its memory lies in the compiled engine: free() releases it at once, the garbage collector only at some later time.
 * Whatever goes wrong is thrown as an Error whose message is a sentence.
 */
export class Engine {
  static load<T extends typeof Engine>(this: T, model: Source, options?: LoadOptions): Promise<T["prototype"]>;

  protected constructor();

  /** The size of the model file, in bytes. */
  readonly bytes: number;
  /** Names of the classes; empty if the file has none. */
  readonly labels: readonly string[];
  /** null if the file has no preprocessing. */
  readonly preprocessing: Preprocessing | null;
  readonly inputs: Tensor[];
  readonly outputs: Tensor[];
  /** The time of the latest inference, without the preprocessing of its image; null before the first inference. */
  readonly milliseconds: number | null;

  /**
   * Changes the shape of one input and, with it, the outputs' shapes. `input` is an index from 0. All inputs and
   * outputs lose their values. If resize() throws, nothing changes.
   */
  resize(input: number, shape: Iterable<number>): void;

  /**
   * Runs one inference. Takes the values of each input, row by row, channels last, in the typed array of its type or
   * in a plain array of numbers.
   * Returns a copy of the output's values or, if there are several outputs, an array of copies.
   */
  run(...values: (TensorValues | number[])[]): TensorValues | TensorValues[];

  /** Preprocesses an image as the file says and stores it in input 0; `place` is its index in the batch, from 0. */
  setImage(image: ImageSource, place?: number): void;

  /** Runs one inference on what the inputs hold; returns what run() returns. */
  invoke(): TensorValues | TensorValues[];

  /** Releases the memory. Later calls are errors, but another free() is not. */
  free(): void;
}

export interface Answer {
  label: string;
  /** The label's index in `labels`, from 0. */
  index: number;
  probability: number;
}

/** A model with labels and preprocessing, which classifies images. Loading any other model is an error. */
export class Classifier extends Engine {
  readonly preprocessing: Preprocessing;

  /** The most probable classes of an image, best first; `top` of them, by default 5. */
  predict(image: ImageSource, options?: { top?: number }): Answer[];
}
