package dev.tidegate.host;

import java.io.IOException;
import java.io.InputStream;

/** The body of one request, read on demand from its connection. */
final class Body extends InputStream {
  /** Bytes of a chunk's size line with its extensions, and of trailers; nobody uses either. */
  private static final int SIZE_LINE_MAX = 1024;

  private static final int TRAILERS_MAX = 16 * 1024;

  /** A body that nobody read is thrown away up to so many bytes; beyond it the connection ends. */
  private static final long SKIP_MAX = 256 * 1024;

  private final Connection connection;
  private final boolean chunked;
  private final long limit;
  private boolean expects;
  /** Bytes to come of the body, or of its present chunk. */
  private long left;
  private long seen;
  private boolean ended;

  Body(Connection connection, Head head, long limit) {
    this.connection = connection;
    this.chunked = head.chunked;
    this.limit = limit;
    this.expects = head.expects;
    this.left = head.chunked ? 0 : Math.max(0, head.length);
    this.ended = !head.chunked && left == 0;
  }

  @Override
  public int read() throws IOException {
    byte[] one = new byte[1];
    return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
  }

  @Override
  public int read(byte[] into, int at, int most) throws IOException {
    if (most == 0) {
      return 0;
    }
    if (ended) {
      return -1;
    }
    if (left > limit) {
      throw new BodyTooLarge(limit);
    }
    if (expects) {
      expects = false;
      connection.goOn();
    }
    if (chunked && left == 0) {
      nextChunk();
      if (ended) {
        return -1;
      }
    }
    int count = connection.take(into, at, (int) Math.min(most, left));
    left -= count;
    seen += count;
    if (seen > limit) {
      throw new BodyTooLarge(limit);
    }
    if (left == 0 && !chunked) {
      ended = true;
    } else if (left == 0 && !connection.line(2, "a chunk").isEmpty()) {
      throw new Head.Bad(400, "malformed chunk, expected CRLF after its data");
    }
    return count;
  }

  private void nextChunk() throws IOException {
    String line = connection.line(SIZE_LINE_MAX, "a chunk's size line");
    int end = line.indexOf(';');
    String size = (end < 0 ? line : line.substring(0, end)).trim();
    if (size.isEmpty() || size.length() > 15 || size.charAt(0) == '+' || size.charAt(0) == '-') {
      throw new Head.Bad(400, "malformed chunk size, expected hexadecimal digits");
    }
    try {
      left = Long.parseLong(size, 16);
    } catch (NumberFormatException malformed) {
      throw new Head.Bad(400, "malformed chunk size, expected hexadecimal digits");
    }
    if (left == 0) {
      int room = TRAILERS_MAX;
      for (String each = connection.line(room, "the trailers"); !each.isEmpty(); each = connection.line(room, "the trailers")) {
        room -= each.length() + 2;
        if (room < 0) {
          throw new Head.Bad(400, "the trailers are too long");
        }
      }
      ended = true;
    }
  }

  /** Throws away what nobody read; whether the connection can go on. */
  boolean skip() {
    if (ended) {
      return true;
    }
    if (expects || chunked || left > SKIP_MAX || left > limit) {
      return false;
    }
    byte[] nowhere = new byte[8 * 1024];
    try {
      while (read(nowhere, 0, nowhere.length) >= 0) {
        continue;
      }
      return true;
    } catch (IOException gone) {
      return false;
    }
  }
}
