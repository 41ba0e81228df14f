package dev.tidegate.host;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.Charset;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** One request, as a handler sees it. */
public final class Event {
  private static final int PIECE = 16 * 1024;

  private final Head head;
  private final InputStream source;
  private byte[] body;

  Event(Head head, InputStream source) {
    this.head = head;
    this.source = source;
  }

  public String method() {
    return head.method;
  }

  /** The path as sent, percent escapes kept, without the query. */
  public String rawPath() {
    int at = head.target.indexOf('?');
    String raw = at < 0 ? head.target : head.target.substring(0, at);
    return raw.isEmpty() ? "/" : raw;
  }

  /** The path after the function's prefix, escapes decoded; begins with "/". */
  public String path() {
    return unescape(rawPath(), false);
  }

  /** What follows the first "?", as sent. */
  public String queryString() {
    int at = head.target.indexOf('?');
    return at < 0 ? "" : head.target.substring(at + 1);
  }

  /** The query; of repeated names the last wins. */
  public Map<String, String> query() {
    Map<String, String> query = new LinkedHashMap<String, String>();
    for (String[] pair : pairs()) {
      query.put(pair[0], pair[1]);
    }
    return query;
  }

  /** Every value of the query parameter {@code name}, in order. */
  public List<String> queryList(String name) {
    List<String> values = new ArrayList<String>();
    for (String[] pair : pairs()) {
      if (pair[0].equals(name)) {
        values.add(pair[1]);
      }
    }
    return values;
  }

  /** The value of a header without regard to case, several joined by a comma; null if there is none. */
  public String header(String name) {
    List<String> values = headerList(name);
    return values.isEmpty() ? null : String.join(name.equalsIgnoreCase("cookie") ? "; " : ", ", values);
  }

  /** Every value of a header, in order. */
  public List<String> headerList(String name) {
    List<String> values = new ArrayList<String>();
    for (String[] field : head.fields) {
      if (field[0].equalsIgnoreCase(name)) {
        values.add(field[1]);
      }
    }
    return values;
  }

  /** All headers by their names in lower case, values joined. */
  public Map<String, String> headers() {
    Map<String, String> headers = new LinkedHashMap<String, String>();
    for (String[] field : head.fields) {
      if (!headers.containsKey(field[0])) {
        headers.put(field[0], header(field[0]));
      }
    }
    return headers;
  }

  /** The media type without parameters, lower case; "" if none was sent. */
  public String contentType() {
    String value = header("content-type");
    if (value == null) {
      return "";
    }
    int at = value.indexOf(';');
    return (at < 0 ? value : value.substring(0, at)).trim().toLowerCase(Locale.ROOT);
  }

  /** The whole body, read at first use. Throws {@link BodyTooLarge} over the function's limit. */
  public byte[] body() throws IOException {
    if (body == null) {
      ByteArrayOutputStream all = new ByteArrayOutputStream();
      byte[] piece = new byte[PIECE];
      for (int count = source.read(piece); count >= 0; count = source.read(piece)) {
        all.write(piece, 0, count);
      }
      body = all.toByteArray();
    }
    return body;
  }

  /** The body as it arrives. Use it instead of {@link #body}. */
  public InputStream stream() {
    return source;
  }

  /** The body decoded by the charset of its content type, UTF-8 by default. */
  public String text() throws IOException {
    return new String(body(), charset());
  }

  /** The body read as JSON: Map, List, String, Long, Double, Boolean or null. Throws {@link InvalidJson}. */
  public Object json() throws IOException {
    return Json.read(body());
  }

  /** For handlers that take a Map: every part by its name, the body as text. */
  Map<String, Object> map() throws IOException {
    Map<String, Object> map = new LinkedHashMap<String, Object>();
    map.put("method", method());
    map.put("path", path());
    map.put("rawPath", rawPath());
    map.put("queryString", queryString());
    map.put("query", query());
    map.put("headers", headers());
    map.put("contentType", contentType());
    map.put("body", text());
    return map;
  }

  private Charset charset() {
    String value = header("content-type");
    int at = value == null ? -1 : value.toLowerCase(Locale.ROOT).indexOf("charset=");
    if (at < 0) {
      return StandardCharsets.UTF_8;
    }
    String name = value.substring(at + "charset=".length());
    int end = name.indexOf(';');
    name = (end < 0 ? name : name.substring(0, end)).replace("\"", "").replace("'", "").trim();
    try {
      return Charset.forName(name);
    } catch (IllegalArgumentException unknown) {
      return StandardCharsets.UTF_8;
    }
  }

  private List<String[]> pairs() {
    List<String[]> pairs = new ArrayList<String[]>();
    String query = queryString();
    for (int from = 0; from < query.length(); ) {
      int end = query.indexOf('&', from);
      end = end < 0 ? query.length() : end;
      if (end > from) {
        int equals = query.indexOf('=', from);
        boolean bare = equals < 0 || equals > end;
        String name = query.substring(from, bare ? end : equals);
        String value = bare ? "" : query.substring(equals + 1, end);
        pairs.add(new String[] {unescape(name, true), unescape(value, true)});
      }
      from = end + 1;
    }
    return pairs;
  }

  /** Percent escapes decoded as UTF-8; what is no escape stays. */
  private static String unescape(String text, boolean plus) {
    if (text.indexOf('%') < 0 && !(plus && text.indexOf('+') >= 0)) {
      return new String(text.getBytes(StandardCharsets.ISO_8859_1), StandardCharsets.UTF_8);
    }
    ByteArrayOutputStream bytes = new ByteArrayOutputStream(text.length());
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      int high = c == '%' && i + 2 < text.length() ? Character.digit(text.charAt(i + 1), 16) : -1;
      int low = high < 0 ? -1 : Character.digit(text.charAt(i + 2), 16);
      if (low >= 0) {
        bytes.write(high << 4 | low);
        i += 2;
      } else {
        bytes.write(plus && c == '+' ? ' ' : c);
      }
    }
    return new String(bytes.toByteArray(), StandardCharsets.UTF_8);
  }
}
