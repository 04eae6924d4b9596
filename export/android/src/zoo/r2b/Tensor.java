package zoo.r2b;

import java.util.Arrays;

/** An input or an output of an {@link Engine}, as it was when it was asked for. */
public final class Tensor {
  /** What a tensor holds. */
  public enum Type {
    /** Java's float. */
    FLOAT32(1, 4),
    /** Java's int. */
    INT32(2, 4),
    /** Bytes that Java takes for negative from 128 on; see {@link Tensor#scale}. */
    UINT8(3, 1),
    /** Bytes that are 0 or 1. */
    BOOL(6, 1),
    /** Java's byte; see {@link Tensor#scale}. */
    INT8(9, 1),
    /** Something that this version does not know. */
    OTHER(0, 1);

    private final long number;

    /** Bytes of one value. */
    public final int bytes;

    Type(long number, int bytes) {
      this.number = number;
      this.bytes = bytes;
    }
  }

  /** The name in the file. */
  public final String name;

  /** The number in the file, by which other programs know it. */
  public final int number;

  /** What it holds. */
  public final Type type;

  /** Bytes of all values. */
  public final long bytes;

  /** Of an int8 tensor: value = scale * (number - zeroPoint). Else 0. */
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

  /** The dimensions, a copy: of images (batch, height, width, channels). */
  public int[] shape() {
    return shape.clone();
  }

  /** How many values there are. */
  public long size() {
    return bytes / type.bytes;
  }

  @Override
  public String toString() {
    return name + ": " + type + " " + Arrays.toString(shape);
  }
}
