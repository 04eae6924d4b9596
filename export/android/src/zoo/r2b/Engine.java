package zoo.r2b;

import java.io.File;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/**
 * A model that is ready to run: set the inputs, run, read the outputs.
 *
 * <p>An engine runs one call at a time. A call while another thread's call runs throws {@link EngineException}, so give
 * each thread an engine of its own. Engines of one {@link Model} share its file and its weights in memory. Close an
 * engine when it is no longer needed: the garbage collector does not know how much memory it takes.
 *
 * <p>Values are ordered row by row, channels last. Buffers of values are used from their position to their limit, and
 * neither changes. They must be direct and, if their numbers are larger than a byte, have the machine's byte order
 * ({@link ByteOrder#nativeOrder}). Inputs and outputs are numbered from 0.
 *
 * <p>Methods throw {@link IllegalArgumentException} for null where a value is needed and for a buffer that breaks these
 * rules. They also throw it if the floats for an input, or a {@link FloatBuffer} for an output, do not fit the tensor's
 * type or size. They throw {@link EngineException} for an index that does not exist, and for bytes or an output's float
 * array of a wrong length.
 */
public final class Engine implements AutoCloseable {
  private final Handle handle;

  /**
   * Makes an engine with the shapes that the file has.
   *
   * @param options null for all defaults
   * @throws EngineException the model needs more than the limits allow, the kernels do not run here, or the number of
   *     threads is above 256
   */
  public Engine(Model model, Options options) {
    Model.given(model, "a model");
    Options how = options == null ? new Options() : options;
    byte[] kernels = how.kernels == null ? null : Native.text(how.kernels);
    handle =
        new Handle(
            "engine",
            model.handle.get(it -> Native.createEngine(it, how.threads, kernels, how.maxMemory, how.maxWork)),
            Native::freeEngine);
  }

  /** Loads an engine from a file's bytes, with default options; see {@link Model#load(byte[])}. */
  public static Engine load(byte[] file) {
    return of(Model.load(file), null);
  }

  /** Loads an engine from a file's bytes. */
  public static Engine load(byte[] file, Options options) {
    return of(Model.load(file), options);
  }

  /** Loads an engine from a buffer; see {@link Model#load(ByteBuffer)}. */
  public static Engine load(ByteBuffer file, Options options) {
    return of(Model.load(file), options);
  }

  /** Loads an engine from a file. */
  public static Engine open(File file, Options options) {
    return of(Model.open(file), options);
  }

  private static Engine of(Model model, Options options) {
    try {
      return new Engine(model, options);
    } finally {
      model.close();
    }
  }

  /** The library's version, such as "0.1.0". */
  public static String version() {
    return new String(Native.version(), StandardCharsets.UTF_8);
  }

  /** The names of the kernels that run on this processor, best first. Kernels are the code for one instruction set. */
  public static List<String> kernels() {
    return Collections.unmodifiableList(Arrays.asList(new String(Native.kernels(), StandardCharsets.UTF_8).split(",")));
  }

  /** The inputs, with their current shapes. */
  public List<Tensor> inputs() {
    return tensors(false);
  }

  /** The outputs, with their current shapes. */
  public List<Tensor> outputs() {
    return tensors(true);
  }

  private List<Tensor> tensors(boolean outputs) {
    return handle.get(
        it -> {
          List<Tensor> tensors = new ArrayList<>();
          for (int i = 0; i < Native.count(it, outputs); ++i) tensors.add(tensor(it, outputs, i));
          return Collections.unmodifiableList(tensors);
        });
  }

  private static Tensor tensor(long engine, boolean output, int index) {
    String name = new String(Native.name(engine, output, index), StandardCharsets.UTF_8);
    return new Tensor(name, Native.describe(engine, output, index));
  }

  /**
   * Changes the shape of an input, and the outputs' shapes with it. All inputs and outputs lose their values.
   *
   * @throws EngineException the model cannot run with that shape; the engine is unchanged
   */
  public void resize(int input, int... shape) {
    Model.given(shape, "a shape");
    handle.run(it -> Native.resize(it, input, shape));
  }

  /** Sets a float32 input. */
  public void setInput(int input, float[] values) {
    Model.given(values, "the values of an input");
    handle.run(
        it -> {
          checkFloats(tensor(it, false, input), "input " + input, values.length);
          Native.setFloats(it, input, values);
        });
  }

  /** Sets a float32 input. */
  public void setInput(int input, FloatBuffer values) {
    Model.given(values, "the values of an input");
    handle.run(
        it -> {
          checkFloats(tensor(it, false, input), "input " + input, values.remaining());
          checkBuffer(values, values.order(), 4);
          Native.setBuffer(it, input, values, 4L * values.position(), 4L * values.remaining());
        });
  }

  /** Sets an input of any type by its bytes, in the machine's order. An int8, uint8 or bool value takes one byte. */
  public void setInput(int input, byte[] values) {
    Model.given(values, "the values of an input");
    handle.run(it -> Native.setBytes(it, input, values));
  }

  /** Sets an input of any type by its bytes. */
  public void setInput(int input, ByteBuffer values) {
    Model.given(values, "the values of an input");
    handle.run(
        it -> {
          checkBuffer(values, values.order(), tensor(it, false, input).type.bytes);
          Native.setBuffer(it, input, values, values.position(), values.remaining());
        });
  }

  /**
   * Sets one image of input 0. It is cropped, resized and normalised as the file says, and quantised if the input is
   * int8 or uint8.
   *
   * @param place the image's index in the batch, from 0
   * @throws EngineException the file does not say how to prepare images, the input does not take them, or the batch has
   *     no such index
   */
  public void setImage(int place, Pixels image) {
    Model.given(image, "an image");
    handle.run(it -> image.set(it, place));
  }

  /** Throws unless the model has one input, which takes images, and one output, which has a number for each label. */
  void checkClassifier() {
    handle.run(Native::checkClassifier);
  }

  /** Runs one inference. Inputs that were never set are zeros. */
  public void run() {
    handle.run(Native::run);
  }

  /** All values of an output as floats, whatever its type. int8 and uint8 values are dequantised. */
  public float[] getOutput(int output) {
    return handle.get(
        it -> {
          Tensor tensor = tensor(it, true, output);
          float[] values = new float[(int) tensor.size()];
          Native.getValues(it, output, values);
          return values;
        });
  }

  /** Copies the values that {@link #getOutput(int)} returns into an array with exactly that many elements. */
  public void getOutput(int output, float[] values) {
    Model.given(values, "an array for the output");
    handle.run(it -> Native.getValues(it, output, values));
  }

  /** Copies a float32 output into a buffer. */
  public void getOutput(int output, FloatBuffer values) {
    Model.given(values, "a buffer for the output");
    handle.run(
        it -> {
          checkFloats(tensor(it, true, output), "output " + output, values.remaining());
          checkWritable(values);
          checkBuffer(values, values.order(), 4);
          Native.getBuffer(it, output, values, 4L * values.position(), 4L * values.remaining());
        });
  }

  /** Copies the bytes of an output of any type into an array. */
  public void getOutput(int output, byte[] values) {
    Model.given(values, "an array for the output");
    handle.run(it -> Native.getBytes(it, output, values));
  }

  /** Copies the bytes of an output of any type into a buffer. */
  public void getOutput(int output, ByteBuffer values) {
    Model.given(values, "a buffer for the output");
    handle.run(
        it -> {
          checkWritable(values);
          checkBuffer(values, values.order(), tensor(it, true, output).type.bytes);
          Native.getBuffer(it, output, values, values.position(), values.remaining());
        });
  }

  /**
   * Waits for calls in other threads to end, then frees the memory. Later calls throw {@link IllegalStateException};
   * closing twice does nothing.
   */
  @Override
  public void close() {
    handle.close();
  }

  private static void checkFloats(Tensor tensor, String what, int given) {
    if (tensor.type != Tensor.Type.FLOAT32)
      throw new IllegalArgumentException(what + " holds " + tensor.type + ", not floats; give its bytes");
    if (tensor.size() != given)
      throw new IllegalArgumentException(what + " has " + tensor.size() + " numbers; received " + given);
  }

  private static void checkBuffer(Buffer buffer, ByteOrder order, int valueBytes) {
    if (!buffer.isDirect())
      throw new IllegalArgumentException("a buffer must be direct (ByteBuffer.allocateDirect); otherwise pass an array");
    if (valueBytes > 1 && order != ByteOrder.nativeOrder())
      throw new IllegalArgumentException(
          "a buffer must have the machine's byte order; call order(ByteOrder.nativeOrder()) before filling it; received "
              + order);
  }

  private static void checkWritable(Buffer buffer) {
    if (buffer.isReadOnly()) throw new IllegalArgumentException("a buffer for an output must not be read-only");
  }
}
