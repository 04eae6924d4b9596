package zoo.r2b;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * The content of a {@code .tflite} file, which is checked completely when it is loaded. Engines of one model share its
 * memory. A model may be closed before its engines. Any thread may call any method.
 */
public final class Model implements AutoCloseable {
  final Handle handle;

  private Model(long address) {
    handle = new Handle("model", address, Native::freeModel);
  }

  /**
   * Loads a model from the bytes of a file, which are copied.
   *
   * @throws EngineException the file is damaged, or holds something that the engine does not run
   */
  public static Model load(byte[] file) {
    return new Model(Native.loadModel(given(file, "the bytes of a model")));
  }

  /**
   * Loads a model from a buffer, such as a mapped file. Copies the bytes from its position to its limit; neither
   * changes.
   */
  public static Model load(ByteBuffer file) {
    given(file, "the buffer of a model");
    if (file.isDirect()) return new Model(Native.loadModelBuffer(file, file.position(), file.remaining()));
    byte[] bytes = new byte[file.remaining()];
    file.duplicate().get(bytes);
    return load(bytes);
  }

  /** Loads a model from a stream, such as an app's asset. Reads the stream to its end and does not close it. */
  public static Model load(InputStream file) throws IOException {
    given(file, "the stream of a model");
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    byte[] part = new byte[1 << 16];
    for (int read; (read = file.read(part)) >= 0; ) bytes.write(part, 0, read);
    return load(bytes.toByteArray());
  }

  /**
   * Loads a model from a file.
   *
   * @throws EngineException the file cannot be read, is damaged, or holds something that the engine does not run
   */
  public static Model open(File file) {
    given(file, "the file of a model");
    return new Model(Native.openModel(Native.text(file.getPath())));
  }

  /**
   * The names of the classes; empty if the file has none.
   *
   * @throws EngineException the file's metadata is damaged
   */
  public List<String> labels() {
    List<String> labels = new ArrayList<>();
    for (byte[] name : handle.get(Native::labels)) labels.add(new String(name, StandardCharsets.UTF_8));
    return Collections.unmodifiableList(labels);
  }

  /**
   * How images are prepared for this model.
   *
   * @throws EngineException the file's metadata does not say, or is damaged
   */
  public Preprocessing preprocessing() {
    return new Preprocessing(handle.get(Native::preprocessing));
  }

  /** Frees the memory once no engine needs it. Closing twice does nothing; other methods of a closed model throw. */
  @Override
  public void close() {
    handle.close();
  }

  static <T> T given(T value, String what) {
    if (value == null) throw new IllegalArgumentException(what + " must be given; received null");
    return value;
  }
}
