package zoo.r2b;

import java.nio.charset.StandardCharsets;

/** Thrown for everything that the engine refuses or cannot do. The message gives the reason. */
public final class EngineException extends RuntimeException {
  private static final long serialVersionUID = 1;

  EngineException(String sentence) {
    super(sentence);
  }

  /** Called by the native code, with a message in UTF-8. */
  EngineException(byte[] sentence) {
    super(new String(sentence, StandardCharsets.UTF_8));
  }
}
