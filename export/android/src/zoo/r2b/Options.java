package zoo.r2b;

/** How an {@link Engine} or an {@link R2bDelegate} runs. Options that are not set have their defaults. */
public final class Options {
  int threads;
  String kernels;
  long maxMemory;
  long maxWork;

  /** Threads for one inference, 1 to 256; default 1. No more threads are started than there are usable cores. */
  public Options threads(int threads) {
    if (threads < 1) throw new IllegalArgumentException("threads must be 1 to 256; received " + threads);
    this.threads = threads;
    return this;
  }

  /** One of the names in {@link Engine#kernels}; default: the first of them. */
  public Options kernels(String kernels) {
    this.kernels = kernels;
    return this;
  }

  /** The most bytes that the engine may take besides the file; default 2 GiB. */
  public Options maxMemory(long bytes) {
    if (bytes < 1) throw new IllegalArgumentException("maxMemory must be at least 1 byte; received " + bytes);
    maxMemory = bytes;
    return this;
  }

  /** The most work of one inference, in float products; 32 binary products count as one; default 200 * 10^9. */
  public Options maxWork(long operations) {
    if (operations < 1) throw new IllegalArgumentException("maxWork must be at least 1 operation; received " + operations);
    maxWork = operations;
    return this;
  }
}
