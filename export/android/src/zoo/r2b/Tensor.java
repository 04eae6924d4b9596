package zoo.r2b;

import java.util.Arrays;

/** Describes an input or an output of an {@link Engine}. It does not change when the engine is resized later. */
public final class Tensor {
  /** The type of a tensor's values. */
  public enum Type {
    /** Java's float. */
    FLOAT32(1, 4),
    /** Java's int. */
    INT32(2, 4),
    /** Unsigned bytes; in a Java byte, 128 to 255 appear as negative numbers. See {@link Tensor#scale}. */
    UINT8(3, 1),
    /** Bytes that are 0 or 1. */
    BOOL(6, 1),
    /** Java's byte; see {@link Tensor#scale}. */
    INT8(9, 1),
    /** A type that this version does not know. */
    OTHER(0, 1);

    private final long number;

    /** Size of one value in bytes; 1 for {@link #OTHER}, whose values have an unknown size. */
    public final int bytes;

    Type(long number, int bytes) {
      this.number = number;
      this.bytes = bytes;
    }
  }

  /** The name in the file. */
  public final String name;

  /** The tensor's index in the file, which TensorFlow Lite's interpreter uses too. */
  public final int number;

  /** The type of its values. */
  public final Type type;

  /** Bytes of all values together. */
  public final long bytes;

  /** For an int8 or uint8 tensor, real value = scale * (stored integer - zeroPoint). For other types 0. */
  public final float scale;

  /** See {@link #scale}. */
  public final int zeroPoint;

  private final int[] shape;

  Tensor(String name, long[] described) {
    this.name = name;
    number = (int) described[0];
    Type found = Type.OTHER;
    for (Type one : Type.values()) if (one.number == described[1]) found = one;
    type = found;
    bytes = described[2];
    zeroPoint = (int) described[3];
    scale = Float.intBitsToFloat((int) described[4]);
    shape = new int[described.length - 5];
    for (int i = 0; i < shape.length; ++i) shape[i] = (int) described[5 + i];
  }

  /** A copy of the dimensions; those of images are (batch, height, width, channels). */
  public int[] shape() {
    return shape.clone();
  }

  /** The number of values; for {@link Type#OTHER}, the number of bytes. */
  public long size() {
    return bytes / type.bytes;
  }

  @Override
  public String toString() {
    return name + ": " + type + " " + Arrays.toString(shape);
  }
}
