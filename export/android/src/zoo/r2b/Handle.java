package zoo.r2b;

import java.util.concurrent.locks.ReentrantReadWriteLock;

/**
 * Holds the address of an object of the native library. Closing waits until no call uses the address, then frees the
 * object. Calls after that throw {@link IllegalStateException}.
 */
final class Handle {
  /** A use of the address that returns a result. */
  interface Use<T> {
    T of(long address);
  }

  /** A use of the address that returns nothing. */
  interface Act {
    void on(long address);
  }

  private final ReentrantReadWriteLock lock = new ReentrantReadWriteLock();
  private final String what;
  private final Act free;
  private long address;

  Handle(String what, long address, Act free) {
    this.what = what;
    this.address = address;
    this.free = free;
  }

  <T> T get(Use<T> use) {
    lock.readLock().lock();
    try {
      if (address == 0) throw new IllegalStateException("this " + what + " is closed; make another one");
      return use.of(address);
    } finally {
      lock.readLock().unlock();
    }
  }

  void run(Act act) {
    get(
        address -> {
          act.on(address);
          return null;
        });
  }

  void close() {
    lock.writeLock().lock();
    try {
      if (address != 0) free.on(address);
      address = 0;
    } finally {
      lock.writeLock().unlock();
    }
  }
}
