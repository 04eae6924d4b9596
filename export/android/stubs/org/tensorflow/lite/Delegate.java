package org.tensorflow.lite;

import java.io.Closeable;

/** TensorFlow Lite's interface, to compile against; an app has the original. */
public interface Delegate extends Closeable {
  long getNativeHandle();

  @Override
  default void close() {}
}
