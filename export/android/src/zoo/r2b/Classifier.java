package zoo.r2b;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;

/**
 * Classifies images with a model whose file contains labels and preprocessing, as r2b_zoo writes them. Threads may
 * share a classifier, which runs one image at a time. Close it when it is no longer needed.
 */
public final class Classifier implements AutoCloseable {
  private final Engine engine;
  private final List<String> labels;

  /**
   * Makes a classifier of a model, which may be closed afterwards.
   *
   * @param options null for all defaults
   * @throws EngineException the file has no labels or no preprocessing, they do not fit the model's input and output,
   *     or {@link Engine} refuses the model or the options
   */
  public Classifier(Model model, Options options) {
    engine = new Engine(model, options);
    try {
      engine.checkClassifier();
      labels = model.labels();
    } catch (RuntimeException wrong) {
      engine.close();
      throw wrong;
    }
  }

  /** Loads a classifier from a file's bytes. */
  public static Classifier load(byte[] file, Options options) {
    return of(Model.load(file), options);
  }

  /** Loads a classifier from a stream, such as an app's asset. Reads the stream to its end and does not close it. */
  public static Classifier load(InputStream file, Options options) throws IOException {
    return of(Model.load(file), options);
  }

  /** Loads a classifier from a file. */
  public static Classifier open(File file, Options options) {
    return of(Model.open(file), options);
  }

  private static Classifier of(Model model, Options options) {
    try {
      return new Classifier(model, options);
    } finally {
      model.close();
    }
  }

  /** The names of the classes, in the order of {@link #probabilities}. */
  public List<String> labels() {
    return labels;
  }

  /** The class that the model finds most probable. */
  public Prediction predict(Pixels image) {
    return predict(image, 1).get(0);
  }

  /**
   * The most probable classes, best first.
   *
   * @param top how many, at least 1; all classes if there are fewer
   * @throws EngineException an output is NaN, because weights are damaged or training diverged
   * @throws IllegalArgumentException top is less than 1
   */
  public List<Prediction> predict(Pixels image, int top) {
    if (top < 1) throw new IllegalArgumentException("top must be at least 1; received " + top);
    float[] row = probabilities(image);
    List<Prediction> all = new ArrayList<>();
    for (int i = 0; i < row.length; ++i) all.add(new Prediction(labels.get(i), row[i]));
    Collections.sort(all, (one, other) -> Float.compare(other.probability, one.probability));
    return Collections.unmodifiableList(new ArrayList<>(all.subList(0, Math.min(top, all.size()))));
  }

  /**
   * The model's output for one image: a number for each label.
   *
   * @throws EngineException an output is NaN, because weights are damaged or training diverged
   */
  public synchronized float[] probabilities(Pixels image) {
    engine.setImage(0, image);
    engine.run();
    // The image is the first of the batch, so its row of the output is the first.
    float[] row = Arrays.copyOf(engine.getOutput(0), labels.size());
    int wrong = 0;
    for (float value : row) if (Float.isNaN(value)) ++wrong;
    if (wrong > 0)
      throw new EngineException(
          "the model's answer is not a number for " + wrong + " of " + row.length
              + " classes: its weights are damaged, or training diverged; convert the model with intact weights");
    return row;
  }

  /** Frees the memory. Later predictions throw {@link IllegalStateException}; closing twice does nothing. */
  @Override
  public void close() {
    engine.close();
  }
}
