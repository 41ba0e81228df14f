package dev.tidegate.host;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Semaphore;

/** One connection to the server: requests one after another. */
final class Connection {
  /** Bytes of a head. The server holds its own clients to less; beyond it somebody is up to something. */
  private static final int HEAD_MAX = 64 * 1024;

  private static final int BUFFER = 16 * 1024;

  private final Socket socket;
  private final Function function;
  private final Config config;
  private final Semaphore calls;
  private InputStream in;
  private OutputStream out;
  private byte[] buffer = new byte[BUFFER];
  private int from;
  private int to;

  Connection(Socket socket, Function function, Config config, Semaphore calls) {
    this.socket = socket;
    this.function = function;
    this.config = config;
    this.calls = calls;
  }

  void serve() {
    try {
      socket.setTcpNoDelay(true);
      in = socket.getInputStream();
      out = socket.getOutputStream();
      boolean keep = true;
      while (keep) {
        Head head = nextHead();
        if (head == null) {
          return;
        }
        keep = answer(head);
      }
    } catch (Head.Bad bad) {
      refuse(bad);
    } catch (IOException gone) {
      // Nobody is left to be told.
    } finally {
      try {
        socket.close();
      } catch (IOException gone) {
        // It is closed.
      }
    }
  }

  private boolean answer(Head head) throws IOException {
    Body body = new Body(this, head, config.maxBody);
    Exchange exchange = new Exchange(out, head);
    calls.acquireUninterruptibly();
    try {
      long ms = head.deadline >= 0 ? head.deadline : config.timeout;
      long deadline = ms <= 0 ? 0 : System.currentTimeMillis() + ms;
      Event event = new Event(head, body);
      Answers.send(exchange, function.call(event, new Context(config, head.requestId, deadline)));
    } catch (Throwable failure) {
      Answers.fail(exchange, failure);
    } finally {
      calls.release();
    }
    return exchange.isComplete() && head.keep && exchange.keeps() && body.skip();
  }

  private void refuse(Head.Bad bad) {
    Head head = new Head();
    head.method = "GET";
    head.minor = 1;
    try {
      Answers.error(new Exchange(out, head), bad.status, bad.getMessage(), "platform");
    } catch (IOException gone) {
      // It did not wait for it.
    }
  }

  /** The next head, or null when the connection ended between requests. */
  private Head nextHead() throws IOException {
    int look = from;
    while (true) {
      while (to - from >= 2 && buffer[from] == '\r' && buffer[from + 1] == '\n') {
        // An empty line before a request line is to be forgiven.
        from += 2;
        look = from;
      }
      for (; look + 3 < to; look++) {
        if (buffer[look] == '\r' && buffer[look + 1] == '\n' && buffer[look + 2] == '\r' && buffer[look + 3] == '\n') {
          if (look - from > HEAD_MAX) {
            break;
          }
          String text = new String(buffer, from, look - from, StandardCharsets.ISO_8859_1);
          from = look + 4;
          return Head.parse(text);
        }
      }
      if (to - from > HEAD_MAX) {
        throw new Head.Bad(431, "the request head is over 65536 bytes");
      }
      int done = look - from;
      int count = fill();
      if (count < 0) {
        return null;
      }
      look = from + done;
    }
  }

  /** Takes more into the buffer behind what is there; -1 at the end. */
  private int fill() throws IOException {
    if (from > 0) {
      System.arraycopy(buffer, from, buffer, 0, to - from);
      to -= from;
      from = 0;
    }
    if (to == buffer.length) {
      buffer = java.util.Arrays.copyOf(buffer, buffer.length * 2);
    }
    int count = in.read(buffer, to, buffer.length - to);
    if (count > 0) {
      to += count;
    }
    return count;
  }

  // === For bodies

  void goOn() throws IOException {
    out.write("HTTP/1.1 100 Continue\r\n\r\n".getBytes(StandardCharsets.ISO_8859_1));
  }

  /** Some bytes, at least one. */
  int take(byte[] into, int at, int most) throws IOException {
    if (from == to && most >= BUFFER) {
      int count = in.read(into, at, most);
      if (count < 0) {
        throw ended();
      }
      return count;
    }
    if (from == to && fill() < 0) {
      throw ended();
    }
    int count = Math.min(most, to - from);
    System.arraycopy(buffer, from, into, at, count);
    from += count;
    return count;
  }

  /** A line without its end, at most {@code max} bytes long. */
  String line(int max, String what) throws IOException {
    int done = 0;
    while (true) {
      for (int look = from + done; look + 1 < to; look++) {
        if (buffer[look] == '\r' && buffer[look + 1] == '\n' && look - from <= max) {
          String line = new String(buffer, from, look - from, StandardCharsets.ISO_8859_1);
          from = look + 2;
          return line;
        }
      }
      if (to - from > max + 2) {
        throw new Head.Bad(400, what.concat(" is too long"));
      }
      done = Math.max(0, to - from - 1);
      if (fill() < 0) {
        throw ended();
      }
    }
  }

  private static EOFException ended() {
    return new EOFException("the request ended before its body was complete");
  }
}
