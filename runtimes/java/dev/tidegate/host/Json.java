package dev.tidegate.host;

import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** JSON, both ways: maps, lists, strings, numbers, booleans and null. */
final class Json {
  /** Deepest nesting that is read and written; the stack bounds it anyway, this says so. */
  private static final int DEPTH_MAX = 500;

  private final String text;
  private int at;
  private int depth;

  private Json(String text) {
    this.text = text;
  }

  // === Reading

  static Object read(byte[] body) {
    if (body.length == 0) {
      throw new InvalidJson("the body is not valid JSON: it is empty");
    }
    String text;
    try {
      text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(body)).toString();
    } catch (CharacterCodingException wrong) {
      throw new InvalidJson("the body is not valid JSON: it is not UTF-8");
    }
    Json json = new Json(text);
    Object value = json.value();
    json.blanks();
    if (json.at < text.length()) {
      throw json.wrong("something follows its end");
    }
    return value;
  }

  private InvalidJson wrong(String what) {
    int line = 1;
    int column = 1;
    for (int i = 0; i < at && i < text.length(); i++) {
      column = text.charAt(i) == '\n' ? 1 : column + 1;
      line += text.charAt(i) == '\n' ? 1 : 0;
    }
    return new InvalidJson("the body is not valid JSON: " + what + " at line " + line + " column " + column);
  }

  private void blanks() {
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
  }

  private char peek() {
    blanks();
    if (at >= text.length()) {
      throw wrong("it ends too early");
    }
    return text.charAt(at);
  }

  private Object value() {
    char c = peek();
    switch (c) {
      case '{':
        return object();
      case '[':
        return array();
      case '"':
        return string();
      case 't':
        return word("true", Boolean.TRUE);
      case 'f':
        return word("false", Boolean.FALSE);
      case 'n':
        return word("null", null);
      default:
        return number();
    }
  }

  private void enter() {
    at++;
    if (++depth > DEPTH_MAX) {
      throw wrong("it is nested too deep");
    }
  }

  private Map<String, Object> object() {
    enter();
    Map<String, Object> map = new LinkedHashMap<String, Object>();
    if (peek() != '}') {
      while (true) {
        if (peek() != '"') {
          throw wrong("expected a name in quotes");
        }
        String name = string();
        if (peek() != ':') {
          throw wrong("expected a colon");
        }
        at++;
        map.put(name, value());
        if (peek() != ',') {
          break;
        }
        at++;
      }
      if (peek() != '}') {
        throw wrong("expected a comma or }");
      }
    }
    at++;
    depth--;
    return map;
  }

  private List<Object> array() {
    enter();
    List<Object> list = new ArrayList<Object>();
    if (peek() != ']') {
      while (true) {
        list.add(value());
        if (peek() != ',') {
          break;
        }
        at++;
      }
      if (peek() != ']') {
        throw wrong("expected a comma or ]");
      }
    }
    at++;
    depth--;
    return list;
  }

  private String string() {
    StringBuilder out = new StringBuilder();
    at++;
    while (true) {
      if (at >= text.length()) {
        throw wrong("a string does not end");
      }
      char c = text.charAt(at++);
      if (c == '"') {
        return out.toString();
      }
      if (c < ' ') {
        at--;
        throw wrong("a string has a control character");
      }
      out.append(c == '\\' ? escape() : c);
    }
  }

  private char escape() {
    char c = at < text.length() ? text.charAt(at++) : '\0';
    int plain = "\"\\/bfnrt".indexOf(c);
    if (plain >= 0) {
      return "\"\\/\b\f\n\r\t".charAt(plain);
    }
    if (c == 'u' && at + 4 <= text.length()) {
      int code = 0;
      for (int i = 0; i < 4; i++) {
        int digit = Character.digit(text.charAt(at + i), 16);
        if (digit < 0) {
          throw wrong("malformed escape");
        }
        code = code << 4 | digit;
      }
      at += 4;
      return (char) code;
    }
    throw wrong("malformed escape");
  }

  private Object word(String word, Object value) {
    if (!text.startsWith(word, at)) {
      throw wrong("expected a value");
    }
    at += word.length();
    return value;
  }

  private Object number() {
    int from = at;
    boolean whole = true;
    if (at < text.length() && text.charAt(at) == '-') {
      at++;
    }
    int first = at;
    digits();
    boolean padded = at - first > 1 && text.charAt(first) == '0';
    if (at < text.length() && text.charAt(at) == '.') {
      whole = false;
      at++;
      digits();
    }
    if (at < text.length() && (text.charAt(at) == 'e' || text.charAt(at) == 'E')) {
      whole = false;
      at++;
      if (at < text.length() && (text.charAt(at) == '+' || text.charAt(at) == '-')) {
        at++;
      }
      digits();
    }
    if (padded) {
      at = first;
      throw wrong("expected a value");
    }
    String number = text.substring(from, at);
    if (!whole) {
      return Double.valueOf(number);
    }
    if (number.length() <= 18) {
      return Long.valueOf(number);
    }
    return new BigInteger(number);
  }

  private void digits() {
    int from = at;
    while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
      at++;
    }
    if (at == from) {
      throw wrong("expected a value");
    }
  }

  // === Writing

  static boolean holds(Object value) {
    return value instanceof Map || value instanceof Iterable || value instanceof Number || value instanceof Boolean
        || value.getClass().isArray();
  }

  static String write(Object value) {
    StringBuilder out = new StringBuilder();
    write(out, value, 0);
    return out.toString();
  }

  private static void write(StringBuilder out, Object value, int depth) {
    if (depth > DEPTH_MAX) {
      throw new IllegalArgumentException("the result is nested too deep for JSON, or holds itself");
    }
    if (value == null || value instanceof Boolean) {
      out.append(value);
    } else if (value instanceof Number) {
      double number = ((Number) value).doubleValue();
      boolean real = value instanceof Double || value instanceof Float;
      if (real && (Double.isNaN(number) || Double.isInfinite(number))) {
        throw new IllegalArgumentException("JSON has no number " + value);
      }
      out.append(value);
    } else if (value instanceof Map) {
      char before = '{';
      for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
        out.append(before);
        quote(out, String.valueOf(entry.getKey()));
        out.append(':');
        write(out, entry.getValue(), depth + 1);
        before = ',';
      }
      out.append(before == '{' ? "{}" : "}");
    } else if (value instanceof Iterable) {
      char before = '[';
      for (Object each : (Iterable<?>) value) {
        write(out.append(before), each, depth + 1);
        before = ',';
      }
      out.append(before == '[' ? "[]" : "]");
    } else if (value.getClass().isArray()) {
      out.append('[');
      for (int i = 0; i < java.lang.reflect.Array.getLength(value); i++) {
        write(i == 0 ? out : out.append(','), java.lang.reflect.Array.get(value, i), depth + 1);
      }
      out.append(']');
    } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum) {
      quote(out, value.toString());
    } else {
      throw new IllegalArgumentException("JSON cannot hold a " + value.getClass().getName());
    }
  }

  static void quote(StringBuilder out, String text) {
    out.append('"');
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (c == '"' || c == '\\') {
        out.append('\\').append(c);
      } else if (c == '\n') {
        out.append("\\n");
      } else if (c < ' ') {
        out.append("\\u00").append(Character.forDigit(c >> 4, 16)).append(Character.forDigit(c & 15, 16));
      } else {
        out.append(c);
      }
    }
    out.append('"');
  }
}
