package org.tensorflow.lite;

import java.io.Closeable;

/** A stand-in for TensorFlow Lite's interface, so that R2bDelegate can be compiled. The AAR does not contain it. */
public interface Delegate extends Closeable {
  long getNativeHandle();

  @Override
  default void close() {}
}
