package dev.tidegate.host;

import java.io.IOException;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The Java language host: loads one class and serves it over HTTP/1.1 on 127.0.0.1:$PORT.
 *
 * <p>A connection has a thread, since the server keeps few, and as many calls run at once as the function takes. What
 * cannot be loaded ends this process with code 1 and one line on standard error that says where and why; that line is what
 * a deploy shows.
 *
 * <p>On the way to the first answer there is no lambda, no regular expression and no string template: each would make the
 * machine compile code of its own first, and together they would double the start.
 */
public final class Main {
  /** The server keeps a connection a worker thread and slot; this only bounds what a fault on its side could cost. */
  private static final int CONNECTIONS_MAX = 512;

  private static final int BACKLOG = 1024;

  /** How long calls in flight may take once the end was asked for, in seconds; the platform's own patience ends then. */
  private static final int GRACE = 5;

  private Main() {}

  public static void main(String[] arguments) throws IOException {
    Config config = new Config();
    Function function = null;
    try {
      function = Function.load(config);
    } catch (Throwable failure) {
      quit(failure, config);
    }
    serve(function, config);
  }

  private static void quit(Throwable failure, Config config) {
    PrintStream log = System.err;
    Throwable cause = Failures.unwrapped(failure);
    if (!(cause instanceof LoadFailed)) {
      log.print(Failures.trace(cause));
    }
    log.println(Failures.line(cause));
    log.flush();
    System.out.flush();
    Runtime.getRuntime().halt(1);
  }

  private static void serve(final Function function, final Config config) throws IOException {
    final ServerSocket listener = new ServerSocket();
    listener.setReuseAddress(true);
    listener.bind(new InetSocketAddress(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), config.port), BACKLOG);
    final Semaphore calls = new Semaphore(config.concurrency, true);
    Runtime.getRuntime().addShutdownHook(new Thread("tidegate-end") {
      @Override
      public void run() {
        end(listener, calls, config.concurrency);
      }
    });
    final AtomicInteger connections = new AtomicInteger();
    while (true) {
      final Socket socket;
      try {
        socket = listener.accept();
      } catch (IOException closed) {
        // The end: the hook waits for what is in flight, and ends the process.
        park();
        return;
      }
      if (connections.incrementAndGet() > CONNECTIONS_MAX) {
        connections.decrementAndGet();
        socket.close();
        continue;
      }
      Thread thread = new Thread("connection") {
        @Override
        public void run() {
          try {
            new Connection(socket, function, config, calls).serve();
          } finally {
            connections.decrementAndGet();
          }
        }
      };
      thread.setDaemon(true);
      try {
        thread.start();
      } catch (OutOfMemoryError full) {
        // No more threads may be had; the server asks again elsewhere.
        connections.decrementAndGet();
        socket.close();
      }
    }
  }

  private static void end(ServerSocket listener, Semaphore calls, int concurrency) {
    try {
      listener.close();
      calls.tryAcquire(concurrency, GRACE, TimeUnit.SECONDS);
    } catch (IOException | InterruptedException hurried) {
      // It ends all the same.
    }
    System.out.flush();
    System.err.flush();
    Runtime.getRuntime().halt(0);
  }

  private static void park() {
    while (true) {
      try {
        Thread.sleep(Long.MAX_VALUE);
      } catch (InterruptedException again) {
        // The hook ends the process.
      }
    }
  }
}
