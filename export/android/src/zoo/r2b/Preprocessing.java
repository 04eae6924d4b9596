package zoo.r2b;

import java.util.Arrays;

/**
 * How an image becomes a model's input: its centre square is cut out, resized by bicubic interpolation, and normalised
 * to (value - mean) / std for each channel.
 */
public final class Preprocessing {
  /** Height of the prepared image, in pixels. */
  public final int height;

  /** Width of the prepared image, in pixels. */
  public final int width;

  /** Channels of the prepared image: 1 (grey) or 3 (RGB). */
  public final int channels;

  /** The square's side, as a share of the image's shorter side, in (0, 1]. */
  public final double cropFraction;

  private final double[] mean;
  private final double[] std;

  Preprocessing(double[] numbers) {
    height = (int) numbers[0];
    width = (int) numbers[1];
    channels = (int) numbers[2];
    cropFraction = numbers[3];
    mean = Arrays.copyOfRange(numbers, 4, 4 + channels);
    std = Arrays.copyOfRange(numbers, 4 + channels, 4 + 2 * channels);
  }

  /** A copy of each channel's mean, for values of 0 to 255. */
  public double[] mean() {
    return mean.clone();
  }

  /** A copy of each channel's standard deviation, for values of 0 to 255. */
  public double[] std() {
    return std.clone();
  }
}
