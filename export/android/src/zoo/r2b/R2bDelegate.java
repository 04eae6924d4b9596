package zoo.r2b;

import java.util.ArrayList;
import java.util.List;
import org.tensorflow.lite.Delegate;

/**
 * A delegate for an app that uses TensorFlow Lite's interpreter. In a model with operators of Larq Compute Engine,
 * which the interpreter lacks, the delegate runs these and all others that the engine supports. It leaves the remaining
 * operators, and models without Larq's, to the interpreter.
 *
 * <pre>{@code
 * try (R2bDelegate delegate = new R2bDelegate(null);
 *     Interpreter interpreter = new Interpreter(file, new Interpreter.Options().addDelegate(delegate))) {
 *   interpreter.run(input, output);
 * }
 * }</pre>
 *
 * Close a delegate after the interpreters that use it.
 */
public final class R2bDelegate implements Delegate, AutoCloseable {
  private final Handle handle;

  /**
   * Makes a delegate.
   *
   * @param options null for all defaults; the default number of threads is the interpreter's
   * @throws EngineException an option is invalid, or the kernels do not run here
   */
  public R2bDelegate(Options options) {
    Options how = options == null ? new Options() : options;
    List<String> keys = new ArrayList<>();
    List<String> values = new ArrayList<>();
    add(keys, values, "num_threads", how.threads == 0 ? null : how.threads);
    add(keys, values, "kernels", how.kernels);
    add(keys, values, "max_memory", how.maxMemory == 0 ? null : whole(how.maxMemory, 1 << 20));
    add(keys, values, "max_work", how.maxWork == 0 ? null : whole(how.maxWork, 1000000000));
    handle = new Handle("delegate", Native.createDelegate(texts(keys), texts(values)), Native::destroyDelegate);
  }

  /** The address of the delegate, for the interpreter. */
  @Override
  public long getNativeHandle() {
    return handle.get(address -> address);
  }

  @Override
  public void close() {
    handle.close();
  }

  private static void add(List<String> keys, List<String> values, String key, Object value) {
    if (value == null) return;
    keys.add(key);
    values.add(value.toString());
  }

  /** Divides by a unit, rounding up: the delegate takes max_memory in MiB and max_work in billions of operations. */
  private static long whole(long number, long unit) {
    return (number - 1) / unit + 1;
  }

  private static byte[][] texts(List<String> texts) {
    byte[][] bytes = new byte[texts.size()][];
    for (int i = 0; i < bytes.length; ++i) bytes[i] = Native.text(texts.get(i));
    return bytes;
  }
}
