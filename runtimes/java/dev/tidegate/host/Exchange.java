package dev.tidegate.host;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;

/** Writes the answer to one request, and knows how far it has come. */
final class Exchange {
  /** The server's own decisions; a function may not take them for it. */
  private static final String OURS = " connection keep-alive transfer-encoding proxy-connection ";

  private static final byte[] LAST_CHUNK = {'0', '\r', '\n', '\r', '\n'};
  private static final byte[] LINE_END = {'\r', '\n'};

  /** Nobody is left to be answered. */
  static final class PeerGone extends IOException {
    private static final long serialVersionUID = 1;

    PeerGone(IOException cause) {
      super(cause);
    }
  }

  private enum Mode {
    NONE,
    LENGTH,
    CHUNKED,
    UNTIL_CLOSE
  }

  final Head head;
  private final OutputStream out;
  private Mode mode = Mode.NONE;
  private boolean started;
  private boolean complete;
  private boolean keep;

  Exchange(OutputStream out, Head head) {
    this.out = out;
    this.head = head;
  }

  boolean isStarted() {
    return started;
  }

  boolean isComplete() {
    return complete;
  }

  boolean keeps() {
    return keep;
  }

  /** A whole answer at once. */
  void respond(int status, List<String[]> fields, byte[] body, String outcome) throws IOException {
    byte[] top = compose(status, fields, body.length, outcome);
    started = true;
    System.out.flush();
    if (mode == Mode.NONE || body.length == 0) {
      send(top, top.length);
    } else {
      byte[] all = java.util.Arrays.copyOf(top, top.length + body.length);
      System.arraycopy(body, 0, all, top.length, body.length);
      send(all, all.length);
    }
    complete = true;
  }

  /** The head of an answer whose body follows by {@link #write} and {@link #finish}. */
  void start(int status, List<String[]> fields) throws IOException {
    byte[] top = compose(status, fields, -1, null);
    started = true;
    send(top, top.length);
  }

  void write(byte[] data, int count) throws IOException {
    if (count == 0 || mode == Mode.NONE) {
      return;
    }
    if (mode == Mode.CHUNKED) {
      byte[] size = Integer.toHexString(count).concat("\r\n").getBytes(StandardCharsets.ISO_8859_1);
      byte[] all = new byte[size.length + count + 2];
      System.arraycopy(size, 0, all, 0, size.length);
      System.arraycopy(data, 0, all, size.length, count);
      System.arraycopy(LINE_END, 0, all, size.length + count, 2);
      send(all, all.length);
    } else {
      send(data, count);
    }
  }

  void finish() throws IOException {
    System.out.flush();
    if (mode == Mode.CHUNKED) {
      send(LAST_CHUNK, LAST_CHUNK.length);
    }
    complete = true;
  }

  private void send(byte[] data, int count) throws IOException {
    try {
      out.write(data, 0, count);
    } catch (IOException gone) {
      throw new PeerGone(gone);
    }
  }

  private byte[] compose(int status, List<String[]> fields, long length, String outcome) {
    StringBuilder text = new StringBuilder(256);
    text.append("HTTP/1.1 ").append(status).append(' ').append(reason(status)).append("\r\n");
    keep = head.keep;
    boolean bodiless = head.method.equals("HEAD");
    for (String[] field : fields) {
      String name = field[0];
      String value = field[1];
      if (name == null || !Head.isToken(name)) {
        throw new IllegalArgumentException("header name " + name + " is not a token of letters, digits and dashes");
      }
      if (value == null || !Head.isValue(value)) {
        throw new IllegalArgumentException("header " + name + " has a line break or NUL in its value, or none");
      }
      String low = name.toLowerCase(Locale.ROOT);
      if (low.equals("content-length")) {
        // The true length is better knowledge, except where no body shows it.
        if (bodiless && length <= 0) {
          length = Long.parseLong(value);
        }
        continue;
      }
      if (OURS.contains(" ".concat(low).concat(" ")) || low.startsWith("x-tidegate-")) {
        continue;
      }
      text.append(name).append(": ").append(value).append("\r\n");
    }
    if (status == 204 || status == 304) {
      mode = Mode.NONE;
    } else if (length >= 0) {
      mode = Mode.LENGTH;
      text.append("content-length: ").append(length).append("\r\n");
    } else if (head.minor == 1) {
      mode = Mode.CHUNKED;
      text.append("transfer-encoding: chunked\r\n");
    } else {
      mode = Mode.UNTIL_CLOSE;
      keep = false;
    }
    if (bodiless) {
      mode = Mode.NONE;
    }
    if (outcome != null) {
      text.append("x-tidegate-outcome: ").append(outcome).append("\r\n");
    }
    if (!keep) {
      text.append("connection: close\r\n");
    } else if (head.minor == 0) {
      text.append("connection: keep-alive\r\n");
    }
    return text.append("\r\n").toString().getBytes(StandardCharsets.UTF_8);
  }

  private static String reason(int status) {
    switch (status) {
      case 200:
        return "OK";
      case 201:
        return "Created";
      case 202:
        return "Accepted";
      case 204:
        return "No Content";
      case 301:
        return "Moved Permanently";
      case 302:
        return "Found";
      case 303:
        return "See Other";
      case 304:
        return "Not Modified";
      case 400:
        return "Bad Request";
      case 401:
        return "Unauthorized";
      case 403:
        return "Forbidden";
      case 404:
        return "Not Found";
      case 405:
        return "Method Not Allowed";
      case 409:
        return "Conflict";
      case 413:
        return "Content Too Large";
      case 422:
        return "Unprocessable Content";
      case 429:
        return "Too Many Requests";
      case 500:
        return "Internal Server Error";
      case 503:
        return "Service Unavailable";
      default:
        return "Status";
    }
  }
}
