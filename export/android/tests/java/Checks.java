import java.io.ByteArrayInputStream;
import java.io.File;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.util.Arrays;
import java.util.Collections;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import zoo.r2b.Classifier;
import zoo.r2b.Engine;
import zoo.r2b.EngineException;
import zoo.r2b.Model;
import zoo.r2b.Options;
import zoo.r2b.Pixels;
import zoo.r2b.R2bDelegate;
import zoo.r2b.Tensor;

/**
 * Checks what the library promises about values, errors, closing and threads.
 *
 * <pre>java Checks CLASSIFIER WITHOUT_LABELS INT8</pre>
 *
 * The arguments are files. CLASSIFIER has an input of shape (1, 8, 8, 1) and three classes, named zero, one and two.
 * WITHOUT_LABELS is that model without labels and preprocessing. INT8 takes int8 values of the same shape and returns
 * their signs as int8.
 */
public final class Checks {
  private static byte[] file;
  private static byte[] bare;
  private static byte[] int8;

  private interface Action {
    void run() throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    file = Files.readAllBytes(new File(arguments[0]).toPath());
    bare = Files.readAllBytes(new File(arguments[1]).toPath());
    int8 = Files.readAllBytes(new File(arguments[2]).toPath());
    loading(arguments[0]);
    values();
    shapes();
    otherTypes();
    images();
    closing();
    delegates();
    sharing();
    oneCallAtATime();
    closingWhileItRuns();
    System.out.println("all checks passed");
  }

  private static void loading(String path) throws Exception {
    ByteBuffer direct = ByteBuffer.allocateDirect(file.length + 16);
    direct.position(16);
    direct.put(file).position(16);
    for (Model model :
        new Model[] {
          Model.load(file),
          Model.load(direct),
          Model.load(ByteBuffer.wrap(file)),
          Model.load(new ByteArrayInputStream(file)),
          Model.open(new File(path))
        }) {
      same(Arrays.asList("zero", "one", "two"), model.labels());
      same(0.875, model.preprocessing().cropFraction);
      same(50.0, model.preprocessing().std()[0]);
      model.close();
    }
    same(16, direct.position());
    same(Collections.emptyList(), Model.load(bare).labels());
    same(true, Engine.version().matches("\\d+\\.\\d+\\.\\d+"));
    same(true, Engine.kernels().contains("portable"));
    refused(EngineException.class, "not a TensorFlow Lite model", () -> Engine.load(new byte[100]));
    refused(EngineException.class, "the file is damaged", () -> Engine.load(new byte[0]));
    refused(EngineException.class, "the file is damaged", () -> Engine.load(Arrays.copyOf(bare, bare.length / 2)));
    refused(EngineException.class, "cannot read /nowhere/ä𝄞: No such file", () -> Model.open(new File("/nowhere/ä𝄞")));
    refused(IllegalArgumentException.class, "must be given; received null", () -> Engine.load((byte[]) null));
    refused(EngineException.class, "kernels 'ä' are not built", () -> Engine.load(file, new Options().kernels("ä")));
    refused(EngineException.class, "num_threads must be 1 to 256", () -> Engine.load(file, new Options().threads(257)));
    refused(IllegalArgumentException.class, "received 0", () -> new Options().threads(0));
    refused(EngineException.class, "raise max_memory", () -> Engine.load(file, new Options().maxMemory(1)));
    refused(EngineException.class, "raise max_work", () -> Engine.load(file, new Options().maxWork(1)));
  }

  private static void values() {
    try (Engine engine = Engine.load(file)) {
      float[] given = image(1);
      FloatBuffer direct = floats(64);
      direct.put(given).flip();
      FloatBuffer answer = floats(3);
      engine.setInput(0, direct);
      engine.run();
      engine.getOutput(0, answer);
      float[] row = new float[3];
      answer.duplicate().get(row);
      same(0, answer.position());
      engine.setInput(0, new float[64]);
      engine.run();
      same(false, Arrays.equals(row, engine.getOutput(0)));
      engine.setInput(0, given);
      engine.run();
      same(true, Arrays.equals(row, engine.getOutput(0)));
      byte[] bytes = new byte[12];
      engine.getOutput(0, bytes);
      same(row[2], ByteBuffer.wrap(bytes).order(ByteOrder.nativeOrder()).getFloat(8));
      refused(IllegalArgumentException.class, "input 0 has 64 numbers; received 63", () -> engine.setInput(0, new float[63]));
      refused(EngineException.class, "input 0 has 256 bytes; received 3", () -> engine.setInput(0, new byte[3]));
      refused(EngineException.class, "1 inputs, numbered from 0; received 1", () -> engine.setInput(1, new byte[3]));
      refused(EngineException.class, "numbered from 0; received -1", () -> engine.getOutput(-1));
      refused(EngineException.class, "output 0 has 3 values; received room for 2", () -> engine.getOutput(0, new float[2]));
      refused(IllegalArgumentException.class, "must be direct", () -> engine.setInput(0, FloatBuffer.wrap(given)));
      refused(
          IllegalArgumentException.class,
          "order(ByteOrder.nativeOrder())",
          () -> engine.setInput(0, ByteBuffer.allocateDirect(256)));
      refused(
          IllegalArgumentException.class, "read-only", () -> engine.getOutput(0, floats(3).asReadOnlyBuffer()));
      same(true, Arrays.equals(row, engine.getOutput(0)));
    }
  }

  private static void shapes() {
    try (Engine engine = Engine.load(file)) {
      Tensor input = engine.inputs().get(0);
      same("[1, 8, 8, 1]", Arrays.toString(input.shape()));
      same(Tensor.Type.FLOAT32, input.type);
      same(256L, input.bytes);
      engine.resize(0, 2, 8, 8, 1);
      same("[2, 3]", Arrays.toString(engine.outputs().get(0).shape()));
      refused(EngineException.class, "at most 8 dimensions; received 9", () -> engine.resize(0, new int[9]));
      refused(EngineException.class, "holds 2 words", () -> engine.resize(0, 1, 8, 8, 64));
      same("[2, 8, 8, 1]", Arrays.toString(engine.inputs().get(0).shape()));
      float[] two = Arrays.copyOf(image(1), 128);
      System.arraycopy(image(2), 0, two, 64, 64);
      engine.setInput(0, two);
      engine.run();
      // The last bits may differ: the dense layer adds its products in another order for several images than for one.
      same(true, Math.abs(answer(file, 2)[1] / engine.getOutput(0)[4] - 1) < 1e-5);
    }
  }

  private static void otherTypes() {
    try (Engine engine = Engine.load(int8)) {
      Tensor input = engine.inputs().get(0);
      same("INT8 0.5 4", input.type + " " + input.scale + " " + input.zeroPoint);
      byte[] given = new byte[64];
      for (int i = 0; i < given.length; ++i) given[i] = (byte) (i % 5 * 2);
      engine.setInput(0, given);
      engine.run();
      byte[] signs = new byte[64];
      engine.getOutput(0, signs);
      float[] values = engine.getOutput(0);
      for (int i = 0; i < given.length; ++i) {
        same(given[i] < 4 ? -1f : 1f, values[i]);
        same((signs[i] + 3) * 0.25f, values[i]);
      }
      ByteBuffer direct = ByteBuffer.allocateDirect(70);
      direct.position(6);
      engine.setInput(0, direct);
      engine.run();
      direct.limit(69).position(5);
      engine.getOutput(0, direct);
      same((byte) -7, direct.get(68));
      same((byte) 0, direct.get(69 - 65));
      refused(IllegalArgumentException.class, "holds INT8, not floats", () -> engine.setInput(0, new float[64]));
    }
  }

  private static void images() {
    refused(EngineException.class, "has no preprocessing metadata", () -> Classifier.load(bare, null));
    try (Classifier classifier = Classifier.load(file, null)) {
      same(3, classifier.predict(Pixels.bytes(new byte[1], 1, 1, 1), 5).size());
      refused(IllegalArgumentException.class, "at least 6 values; received 5", () -> Pixels.argb(new int[5], 3, 2));
      refused(IllegalArgumentException.class, "received 0 x 2", () -> Pixels.argb(new int[5], 0, 2));
      refused(IllegalArgumentException.class, "at least", () -> Pixels.argb(new int[5], 1 << 20, 1 << 20));
      refused(IllegalArgumentException.class, "1, 3 or 4 channels; received 2", () -> Pixels.bytes(new byte[8], 2, 2, 2));
      refused(
          IllegalArgumentException.class,
          "a stride of 7",
          () -> Pixels.buffer(ByteBuffer.allocateDirect(64), 2, 2, 4, 7));
      refused(IllegalArgumentException.class, "must be direct", () -> Pixels.buffer(ByteBuffer.allocate(64), 2, 2, 4, 8));
      refused(
          IllegalArgumentException.class,
          "top must be at least 1",
          () -> classifier.predict(Pixels.argb(new int[1], 1, 1), 0));
    }
    try (Engine engine = Engine.load(file)) {
      engine.resize(0, 2, 8, 8, 1);
      engine.setImage(1, Pixels.argb(new int[] {0xff102030}, 1, 1));
      refused(EngineException.class, "2 images, numbered from 0; received 2", () -> engine.setImage(2, Pixels.argb(new int[1], 1, 1)));
    }
    try (Engine engine = Engine.load(bare)) {
      refused(
          EngineException.class,
          "has no preprocessing metadata",
          () -> engine.setImage(0, Pixels.argb(new int[1], 1, 1)));
    }
  }

  private static void closing() {
    Model model = Model.load(file);
    Engine engine = new Engine(model, null);
    Classifier classifier = new Classifier(model, null);
    model.close();
    model.close();
    engine.run();
    engine.close();
    engine.close();
    classifier.close();
    R2bDelegate delegate = new R2bDelegate(null);
    delegate.close();
    delegate.close();
    Class<? extends Throwable> closed = IllegalStateException.class;
    refused(closed, "this model is closed", model::labels);
    refused(closed, "this model is closed", () -> new Engine(model, null));
    refused(closed, "this engine is closed", engine::run);
    refused(closed, "this engine is closed", engine::inputs);
    refused(closed, "this engine is closed", () -> engine.setInput(0, new float[64]));
    refused(closed, "this engine is closed", () -> engine.getOutput(0));
    refused(closed, "this engine is closed", () -> classifier.predict(Pixels.argb(new int[1], 1, 1)));
    refused(closed, "this delegate is closed", delegate::getNativeHandle);
  }

  private static void delegates() {
    Options options = new Options().threads(2).kernels("portable").maxMemory(1).maxWork(1);
    try (R2bDelegate delegate = new R2bDelegate(options)) {
      same(true, delegate.getNativeHandle() != 0);
    }
    refused(EngineException.class, "kernels 'none' are not built", () -> new R2bDelegate(new Options().kernels("none")));
  }

  /** Threads that make and run engines of one model at the same time all get the same output. */
  private static void sharing() throws Exception {
    float[] expected = answer(file, 3);
    AtomicInteger right = new AtomicInteger();
    Thread[] threads = new Thread[4];
    try (Model model = Model.load(file)) {
      for (int i = 0; i < threads.length; ++i) {
        threads[i] =
            new Thread(
                () -> {
                  for (int round = 0; round < 50; ++round)
                    try (Engine engine = new Engine(model, new Options().threads(2))) {
                      engine.setInput(0, image(3));
                      engine.run();
                      if (Arrays.equals(expected, engine.getOutput(0))) right.incrementAndGet();
                    }
                });
        threads[i].start();
      }
      for (Thread thread : threads) thread.join();
    }
    same(200, right.get());
  }

  /** If several threads call one engine at the same time, each call succeeds or throws an exception with the reason. */
  private static void oneCallAtATime() throws Exception {
    AtomicReference<Throwable> wrong = new AtomicReference<>();
    AtomicInteger done = new AtomicInteger();
    Thread[] threads = new Thread[4];
    try (Engine engine = Engine.load(file)) {
      for (int i = 0; i < threads.length; ++i) {
        threads[i] =
            new Thread(
                () -> {
                  for (int round = 0; round < 500; ++round)
                    try {
                      engine.run();
                      done.incrementAndGet();
                    } catch (EngineException refused) {
                      if (!refused.getMessage().contains("another thread is using this engine")) wrong.set(refused);
                    } catch (Throwable thrown) {
                      wrong.set(thrown);
                    }
                });
        threads[i].start();
      }
      for (Thread thread : threads) thread.join();
    }
    same(null, wrong.get());
    same(true, done.get() > 0);
  }

  private static void closingWhileItRuns() throws Exception {
    for (int round = 0; round < 50; ++round) {
      Engine engine = Engine.load(file);
      CountDownLatch running = new CountDownLatch(1);
      AtomicReference<Throwable> ended = new AtomicReference<>();
      Thread thread =
          new Thread(
              () -> {
                try {
                  for (; ; running.countDown()) engine.run();
                } catch (Throwable thrown) {
                  ended.set(thrown);
                }
              });
      thread.start();
      running.await();
      engine.close();
      thread.join();
      same("this engine is closed; make another one", ended.get().getMessage());
    }
  }

  private static float[] answer(byte[] model, int seed) {
    try (Engine engine = Engine.load(model)) {
      engine.setInput(0, image(seed));
      engine.run();
      return engine.getOutput(0);
    }
  }

  private static float[] image(int seed) {
    float[] values = new float[64];
    for (int i = 0; i < values.length; ++i) values[i] = (i * i * seed % 17) / 8f - 1;
    return values;
  }

  private static FloatBuffer floats(int count) {
    return ByteBuffer.allocateDirect(4 * count).order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

  private static void same(Object expected, Object found) {
    if (expected == null ? found != null : !expected.equals(found))
      throw new AssertionError("expected " + expected + "; found " + found);
  }

  private static void refused(Class<? extends Throwable> type, String part, Action action) {
    try {
      action.run();
    } catch (Throwable thrown) {
      if (thrown.getClass() == type && thrown.getMessage().contains(part)) {
        System.out.println("refused: " + thrown.getMessage());
        return;
      }
      throw new AssertionError("expected " + type.getSimpleName() + " with '" + part + "'", thrown);
    }
    throw new AssertionError("expected " + type.getSimpleName() + " with '" + part + "'; nothing was thrown");
  }
}
