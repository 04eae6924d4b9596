package zoo.r2b;

/** A class and its probability. */
public final class Prediction {
  /** The name of the class. */
  public final String label;

  /** The model's output for the class; 0 to 1 if the model ends with a softmax. */
  public final float probability;

  Prediction(String label, float probability) {
    this.label = label;
    this.probability = probability;
  }

  @Override
  public String toString() {
    return label + " " + probability;
  }
}
