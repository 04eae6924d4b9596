package zoo.r2b;

import android.graphics.Bitmap;
import java.nio.ByteBuffer;

/**
 * An image of any size. A bitmap is copied. An array or a buffer is not copied: it is read whenever the image is used.
 * Values are 0 to 255; alpha is ignored. Turn photographs upright first: EXIF data is not read. Methods throw {@link
 * IllegalArgumentException} if there are too few values for the sizes, if a size is invalid, or if an argument is null.
 */
public final class Pixels {
  private final int[] argb;
  private final byte[] array;
  private final ByteBuffer buffer;
  private final int width;
  private final int height;
  private final int channels;
  private final int stride;

  private Pixels(
      int[] argb, byte[] array, ByteBuffer buffer, int width, int height, int channels, int stride, long given) {
    if (width < 1 || height < 1)
      throw new IllegalArgumentException(
          "an image has at least one pixel; received " + width + " x " + height + " (width x height)");
    if (channels != 1 && channels != 3 && channels != 4)
      throw new IllegalArgumentException("an image has 1, 3 or 4 channels; received " + channels);
    long row = (long) width * channels;
    if (stride < row)
      throw new IllegalArgumentException(
          "a row of " + width + " pixels has at least " + row + " values; received a stride of " + stride);
    long least = (long) stride * (height - 1) + row;
    if (given < least)
      throw new IllegalArgumentException(
          "an image of " + width + " x " + height + " has at least " + least + " values; received " + given);
    this.argb = argb;
    this.array = array;
    this.buffer = buffer;
    this.width = width;
    this.height = height;
    this.channels = channels;
    this.stride = stride;
  }

  /** Colours as android.graphics.Color packs them (0xAARRGGBB), row by row. */
  public static Pixels argb(int[] colors, int width, int height) {
    Model.given(colors, "the pixels of an image");
    return new Pixels(colors, null, null, width, height, 1, width, colors.length);
  }

  /**
   * Bytes, row by row, without gaps between rows.
   *
   * @param channels 1 (grey), 3 (RGB) or 4 (RGBA)
   */
  public static Pixels bytes(byte[] values, int width, int height, int channels) {
    Model.given(values, "the pixels of an image");
    return new Pixels(null, values, null, width, height, channels, stride(width, channels), values.length);
  }

  /**
   * The bytes of a direct buffer from its current position on, such as a plane of a camera's RGBA_8888 image.
   *
   * @param channels 1 (grey), 3 (RGB) or 4 (RGBA)
   * @param stride bytes from one row to the next
   */
  public static Pixels buffer(ByteBuffer values, int width, int height, int channels, int stride) {
    Model.given(values, "the pixels of an image");
    if (!values.isDirect())
      throw new IllegalArgumentException("a buffer must be direct (ByteBuffer.allocateDirect); otherwise pass an array");
    return new Pixels(null, null, values.slice(), width, height, channels, stride, values.remaining());
  }

  /** A copy of a bitmap. Bitmaps of Bitmap.Config.HARDWARE cannot be read: copy them to ARGB_8888 first. */
  public static Pixels of(Bitmap bitmap) {
    Model.given(bitmap, "a bitmap");
    int width = bitmap.getWidth();
    int height = bitmap.getHeight();
    int[] colors = new int[width * height];
    bitmap.getPixels(colors, 0, width, 0, 0, width, height);
    return argb(colors, width, height);
  }

  private static int stride(int width, int channels) {
    long bytes = (long) width * channels;
    if (bytes > Integer.MAX_VALUE)
      throw new IllegalArgumentException("a row has at most 2^31 - 1 values; received " + bytes);
    return (int) bytes;
  }

  void set(long engine, int place) {
    if (argb != null) Native.setArgb(engine, place, argb, width, height);
    else if (array != null) Native.setPixels(engine, place, array, width, height, channels, stride);
    else Native.setPixelBuffer(engine, place, buffer, width, height, channels, stride);
  }
}
