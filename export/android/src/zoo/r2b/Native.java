package zoo.r2b;

import java.nio.Buffer;
import java.nio.charset.StandardCharsets;

/**
 * The functions of native/jni.cc. Texts are UTF-8. Models, engines and delegates are the addresses of native objects.
 * {@code from} is the index of a buffer's first byte to use, {@code bytes} the number of bytes to use.
 */
final class Native {
  static {
    System.loadLibrary("r2b_android");
  }

  private Native() {}

  /** Encodes a text in UTF-8 for the native functions. */
  static byte[] text(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  static native byte[] version();

  static native byte[] kernels();

  static native long loadModel(byte[] model);

  static native long loadModelBuffer(Buffer model, long from, long bytes);

  static native long openModel(byte[] path);

  static native void freeModel(long model);

  static native byte[][] labels(long model);

  /** Height, width, channels, crop fraction, then mean and standard deviation of each channel. */
  static native double[] preprocessing(long model);

  static native long createEngine(long model, int threads, byte[] kernels, long maxMemory, long maxWork);

  static native void freeEngine(long engine);

  static native int count(long engine, boolean outputs);

  /** The tensor's index in the file, type, size in bytes, zero point, the bits of its float scale, its dimensions. */
  static native long[] describe(long engine, boolean output, int index);

  static native byte[] name(long engine, boolean output, int index);

  static native void resize(long engine, int input, int[] shape);

  static native void setFloats(long engine, int input, float[] values);

  static native void setBytes(long engine, int input, byte[] values);

  static native void setBuffer(long engine, int input, Buffer values, long from, long bytes);

  static native void setArgb(long engine, int place, int[] pixels, int width, int height);

  static native void setPixels(long engine, int place, byte[] pixels, int width, int height, int channels, int stride);

  static native void setPixelBuffer(
      long engine, int place, Buffer pixels, int width, int height, int channels, int stride);

  static native void checkClassifier(long engine);

  static native void run(long engine);

  static native void getValues(long engine, int output, float[] values);

  static native void getBytes(long engine, int output, byte[] values);

  static native void getBuffer(long engine, int output, Buffer values, long from, long bytes);

  static native long createDelegate(byte[][] keys, byte[][] values);

  static native void destroyDelegate(long delegate);
}
