import android.graphics.Bitmap;
import java.io.DataInputStream;
import java.io.File;
import java.io.FileInputStream;
import java.nio.ByteBuffer;
import java.util.Arrays;
import zoo.r2b.Classifier;
import zoo.r2b.Options;
import zoo.r2b.Pixels;
import zoo.r2b.Prediction;

/**
 * Classifies images and prints a line for each: the predicted label, a tab, and the bits of all probabilities in
 * hexadecimal.
 * Fails if the probabilities depend on the form in which {@link Pixels} takes the image.
 *
 * <pre>java Predict MODEL IMAGES THREADS</pre>
 *
 * For each image, the file IMAGES contains its width and height as big-endian int32, then its RGB bytes.
 */
public final class Predict {
  public static void main(String[] arguments) throws Exception {
    Options options = new Options().threads(Integer.parseInt(arguments[2]));
    try (Classifier classifier = Classifier.open(new File(arguments[0]), options);
        DataInputStream images = new DataInputStream(new FileInputStream(arguments[1]))) {
      while (images.available() > 0) {
        int width = images.readInt();
        byte[] rgb = new byte[3 * width * images.readInt()];
        images.readFully(rgb);
        System.out.println(answer(classifier, rgb, width));
      }
    }
  }

  private static String answer(Classifier classifier, byte[] rgb, int width) {
    int height = rgb.length / 3 / width;
    int[] colors = new int[width * height];
    int stride = 4 * width + 12;
    ByteBuffer rgba = ByteBuffer.allocateDirect(8 + stride * height);
    for (int i = 0; i < colors.length; ++i) {
      colors[i] = i << 24 | (rgb[3 * i] & 255) << 16 | (rgb[3 * i + 1] & 255) << 8 | rgb[3 * i + 2] & 255;
      rgba.position(8 + i / width * stride + 4 * (i % width));
      rgba.put(rgb, 3 * i, 3).put((byte) i);
    }
    rgba.position(8);
    Bitmap bitmap = Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888);
    float[] row = classifier.probabilities(Pixels.argb(colors, width, height));
    for (Pixels same :
        new Pixels[] {
          Pixels.of(bitmap), Pixels.bytes(rgb, width, height, 3), Pixels.buffer(rgba, width, height, 4, stride)
        })
      if (!Arrays.equals(row, classifier.probabilities(same)))
        throw new AssertionError("the probabilities depend on the form of the image");
    Prediction best = classifier.predict(Pixels.of(bitmap));
    if (classifier.predict(Pixels.of(bitmap), 2).get(0).probability != best.probability)
      throw new AssertionError("predict() and predict(…, 2) disagree about the best class");
    StringBuilder line = new StringBuilder(best.label + "\t");
    for (float value : row) line.append(String.format("%08x", Float.floatToIntBits(value)));
    return line.toString();
  }
}
