package android.graphics;

/**
 * Stands for Android's class. It has the methods that the library and its tests call, which Android has had since API
 * level 1. They work, because the tests run them on a JVM. The AAR does not contain this class.
 */
public final class Bitmap {
  private final int[] colors;
  private final int width;

  private Bitmap(int[] colors, int width) {
    this.colors = colors;
    this.width = width;
  }

  public static Bitmap createBitmap(int[] colors, int width, int height, Config config) {
    return new Bitmap(colors.clone(), width);
  }

  public enum Config {
    ARGB_8888
  }

  public int getWidth() {
    return width;
  }

  public int getHeight() {
    return colors.length / width;
  }

  public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) {
    for (int row = 0; row < height; ++row)
      System.arraycopy(colors, (y + row) * this.width + x, pixels, offset + row * stride, width);
  }
}
