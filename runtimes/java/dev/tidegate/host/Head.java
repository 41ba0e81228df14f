package dev.tidegate.host;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * A request without its body.
 *
 * <p>Only the platform's server speaks to a host, yet what it passes on was written by strangers. So everything ambiguous
 * about where a message ends is refused: a length beside a transfer coding, repeated lengths, folded lines, a space before
 * the colon, bare CR, LF or NUL.
 */
final class Head {
  String method;
  String target;
  int minor;
  /** Lower-case name and value, in order. */
  final List<String[]> fields = new ArrayList<String[]>();
  /** Bytes of the body; -1 where not said. */
  long length = -1;
  boolean chunked;
  boolean keep;
  boolean expects;
  String requestId;
  /** Milliseconds left; -1 where not said. */
  long deadline = -1;

  /** A request that cannot be served; {@code status} says with what to answer. */
  static final class Bad extends java.io.IOException {
    private static final long serialVersionUID = 1;
    final int status;

    Bad(int status, String message) {
      super(message);
      this.status = status;
    }
  }

  /** Reads a head, one character a byte, without its empty line. */
  static Head parse(String text) throws Bad {
    Head head = new Head();
    int end = text.indexOf("\r\n");
    end = end < 0 ? text.length() : end;
    head.requestLine(text.substring(0, end));
    while (end < text.length()) {
      int from = end + 2;
      end = text.indexOf("\r\n", from);
      end = end < 0 ? text.length() : end;
      head.field(text.substring(from, end));
    }
    if (head.chunked && head.length >= 0) {
      throw new Bad(400, "both content-length and transfer-encoding are set, expected one");
    }
    if (head.chunked && head.minor == 0) {
      throw new Bad(400, "transfer-encoding needs HTTP/1.1");
    }
    return head;
  }

  private void requestLine(String line) throws Bad {
    int first = line.indexOf(' ');
    int last = line.lastIndexOf(' ');
    String version = last < 0 ? "" : line.substring(last + 1);
    boolean ours = version.equals("HTTP/1.1") || version.equals("HTTP/1.0");
    if (!ours && version.startsWith("HTTP/")) {
      throw new Bad(505, "unsupported protocol version, expected HTTP/1.1");
    }
    if (!ours || first <= 0 || first >= last - 1 || !isToken(line.substring(0, first)) || !isTarget(line.substring(first + 1, last))) {
      throw new Bad(400, "malformed request line, expected `METHOD target HTTP/1.1`");
    }
    method = line.substring(0, first);
    target = line.substring(first + 1, last);
    minor = version.charAt(7) - '0';
    keep = minor == 1;
    if (target.charAt(0) != '/') {
      target = originForm();
    }
  }

  private String originForm() throws Bad {
    if (target.equals("*") && method.equals("OPTIONS")) {
      return target;
    }
    String low = target.toLowerCase(Locale.ROOT);
    int from = low.startsWith("http://") ? 7 : low.startsWith("https://") ? 8 : -1;
    if (from < 0) {
      throw new Bad(400, "malformed request target, expected a path that begins with `/`");
    }
    while (from < target.length() && "/?#".indexOf(target.charAt(from)) < 0) {
      from++;
    }
    String rest = target.substring(from);
    return rest.startsWith("/") ? rest : "/".concat(rest);
  }

  private void field(String line) throws Bad {
    int colon = line.indexOf(':');
    if (colon <= 0 || !isToken(line.substring(0, colon)) || !isValue(line)) {
      throw new Bad(400, "malformed header field, expected `name: value` on each line");
    }
    String name = line.substring(0, colon).toLowerCase(Locale.ROOT);
    String value = readable(blanksOff(line.substring(colon + 1)));
    switch (name) {
      case "content-length":
        if (length >= 0) {
          throw new Bad(400, "content-length is set twice");
        }
        length = digits(value);
        if (length < 0) {
          throw new Bad(400, "malformed content-length, expected decimal digits");
        }
        break;
      case "transfer-encoding":
        if (chunked) {
          throw new Bad(400, "transfer-encoding is set twice");
        }
        if (!value.equalsIgnoreCase("chunked")) {
          throw new Bad(501, "unsupported transfer-encoding, expected `chunked`");
        }
        chunked = true;
        break;
      case "connection":
        connection(value.toLowerCase(Locale.ROOT));
        break;
      case "expect":
        if (!value.equalsIgnoreCase("100-continue")) {
          throw new Bad(417, "unsupported expectation, expected `100-continue`");
        }
        expects = minor == 1;
        break;
      case "x-request-id":
        requestId = value;
        break;
      case "x-tidegate-deadline-ms":
        deadline = digits(value);
        return;
      default:
        if (name.startsWith("x-tidegate-")) {
          return;
        }
    }
    fields.add(new String[] {name, value});
  }

  /** UTF-8 where the bytes are, Latin-1 otherwise. */
  private static String readable(String bytes) {
    boolean plain = true;
    for (int i = 0; i < bytes.length() && plain; i++) {
      plain = bytes.charAt(i) < 0x80;
    }
    if (plain) {
      return bytes;
    }
    try {
      ByteBuffer raw = ByteBuffer.wrap(bytes.getBytes(StandardCharsets.ISO_8859_1));
      return StandardCharsets.UTF_8.newDecoder().decode(raw).toString();
    } catch (CharacterCodingException other) {
      return bytes;
    }
  }

  private void connection(String value) {
    for (int from = 0; from <= value.length(); ) {
      int end = value.indexOf(',', from);
      end = end < 0 ? value.length() : end;
      String option = value.substring(from, end).trim();
      if (option.equals("close")) {
        keep = false;
      } else if (option.equals("keep-alive") && minor == 0) {
        keep = true;
      }
      from = end + 1;
    }
  }

  private static String blanksOff(String text) {
    int from = 0;
    int to = text.length();
    while (from < to && (text.charAt(from) == ' ' || text.charAt(from) == '\t')) {
      from++;
    }
    while (to > from && (text.charAt(to - 1) == ' ' || text.charAt(to - 1) == '\t')) {
      to--;
    }
    return text.substring(from, to);
  }

  /** A number of at most 18 digits; -1 where it is none. */
  private static long digits(String text) {
    if (text.isEmpty() || text.length() > 18) {
      return -1;
    }
    long number = 0;
    for (int i = 0; i < text.length(); i++) {
      int digit = text.charAt(i) - '0';
      if (digit < 0 || digit > 9) {
        return -1;
      }
      number = number * 10 + digit;
    }
    return number;
  }

  static boolean isToken(String text) {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      boolean plain = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9';
      if (!plain && "!#$%&'*+-.^_`|~".indexOf(c) < 0) {
        return false;
      }
    }
    return !text.isEmpty();
  }

  private static boolean isTarget(String text) {
    for (int i = 0; i < text.length(); i++) {
      if (text.charAt(i) < 0x21 || text.charAt(i) > 0xff) {
        return false;
      }
    }
    return true;
  }

  static boolean isValue(String text) {
    return text.indexOf('\r') < 0 && text.indexOf('\n') < 0 && text.indexOf('\0') < 0;
  }
}
