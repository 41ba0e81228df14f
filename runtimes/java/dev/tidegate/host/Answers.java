package dev.tidegate.host;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.stream.BaseStream;

/** What a handler returned, read as an HTTP answer; what it threw, as an error. */
final class Answers {
  private static final String TEXT = "text/plain; charset=utf-8";
  private static final String BINARY = "application/octet-stream";
  private static final String JSON = "application/json";
  private static final int PIECE = 64 * 1024;

  private Answers() {}

  static void send(Exchange exchange, Object result) throws Throwable {
    if (result instanceof CompletionStage) {
      try {
        result = ((CompletionStage<?>) result).toCompletableFuture().get();
      } catch (ExecutionException failure) {
        throw failure.getCause();
      }
    }
    if (result instanceof Map && ((Map<?, ?>) result).containsKey("statusCode")) {
      result = fromProxy((Map<?, ?>) result);
    }
    if (result instanceof Response) {
      Response response = (Response) result;
      if (response.status < 200 || response.status > 599) {
        throw new IllegalArgumentException("status " + response.status + " is not a number from 200 to 599");
      }
      send(exchange, response.status, response.fields, response.body);
    } else {
      send(exchange, 200, Collections.<String[]>emptyList(), result);
    }
  }

  private static void send(Exchange exchange, int status, List<String[]> fields, Object body) throws IOException {
    if (body == null) {
      exchange.respond(status, fields, new byte[0], null);
    } else if (body instanceof CharSequence) {
      byte[] bytes = body.toString().getBytes(StandardCharsets.UTF_8);
      exchange.respond(status, typed(fields, TEXT), bytes, null);
    } else if (body instanceof byte[]) {
      exchange.respond(status, typed(fields, BINARY), (byte[]) body, null);
    } else if (body instanceof InputStream) {
      stream(exchange, status, typed(fields, BINARY), (InputStream) body);
    } else if (body instanceof Iterator) {
      stream(exchange, status, fields, (Iterator<?>) body);
    } else if (body instanceof BaseStream) {
      try (BaseStream<?, ?> stream = (BaseStream<?, ?>) body) {
        stream(exchange, status, fields, stream.iterator());
      }
    } else if (Json.holds(body)) {
      exchange.respond(status, typed(fields, JSON), Json.write(body).getBytes(StandardCharsets.UTF_8), null);
    } else {
      throw new IllegalArgumentException("handler returned " + body.getClass().getName()
          + ", expected null, String, byte[], something JSON can hold, InputStream, Iterator, Stream, a Map with statusCode or Response");
    }
  }

  private static List<String[]> typed(List<String[]> fields, String type) {
    for (String[] field : fields) {
      if ("content-type".equalsIgnoreCase(field[0])) {
        return fields;
      }
    }
    List<String[]> all = new ArrayList<String[]>(fields);
    all.add(new String[] {"content-type", type});
    return all;
  }

  /** Sends pieces as they come. The head waits for the first: a failure until then is a clean 500. */
  private static void stream(Exchange exchange, int status, List<String[]> fields, InputStream body) throws IOException {
    try (InputStream in = body) {
      byte[] piece = new byte[PIECE];
      int count = in.read(piece);
      exchange.start(status, fields);
      for (; count >= 0; count = in.read(piece)) {
        exchange.write(piece, count);
      }
      exchange.finish();
    }
  }

  private static void stream(Exchange exchange, int status, List<String[]> fields, Iterator<?> pieces) throws IOException {
    boolean more = pieces.hasNext();
    Object piece = more ? pieces.next() : null;
    byte[] bytes = more ? piece(piece) : new byte[0];
    exchange.start(status, typed(fields, piece instanceof CharSequence ? TEXT : BINARY));
    exchange.write(bytes, bytes.length);
    while (more && pieces.hasNext()) {
      bytes = piece(pieces.next());
      exchange.write(bytes, bytes.length);
    }
    exchange.finish();
  }

  private static byte[] piece(Object piece) {
    if (piece instanceof byte[]) {
      return (byte[]) piece;
    }
    if (piece instanceof CharSequence) {
      return piece.toString().getBytes(StandardCharsets.UTF_8);
    }
    throw new IllegalArgumentException("a streamed body gave "
        + (piece == null ? "null" : piece.getClass().getName()) + ", expected String or byte[]");
  }

  /** Reads a map with statusCode, headers, multiValueHeaders, cookies, body and isBase64Encoded. */
  private static Response fromProxy(Map<?, ?> map) {
    Object body = map.get("body");
    if (Boolean.TRUE.equals(map.get("isBase64Encoded")) && body != null) {
      body = Base64.getDecoder().decode(body.toString());
    }
    int status;
    try {
      status = Integer.parseInt(String.valueOf(map.get("statusCode")));
    } catch (NumberFormatException wrong) {
      throw new IllegalArgumentException("status " + map.get("statusCode") + " is not a number from 200 to 599");
    }
    Response response = new Response(body, status);
    addAll(response, map.get("headers"));
    addAll(response, map.get("multiValueHeaders"));
    if (map.get("cookies") instanceof Iterable) {
      for (Object cookie : (Iterable<?>) map.get("cookies")) {
        response.header("set-cookie", String.valueOf(cookie));
      }
    }
    return response;
  }

  private static void addAll(Response response, Object headers) {
    if (!(headers instanceof Map)) {
      return;
    }
    for (Map.Entry<?, ?> entry : ((Map<?, ?>) headers).entrySet()) {
      String name = String.valueOf(entry.getKey());
      if (entry.getValue() instanceof Iterable) {
        for (Object each : (Iterable<?>) entry.getValue()) {
          response.header(name, String.valueOf(each));
        }
      } else {
        response.header(name, String.valueOf(entry.getValue()));
      }
    }
  }

  // === Errors

  /** Answers what a function threw, or breaks the answer off. */
  static void fail(Exchange exchange, Throwable failure) throws IOException {
    if (failure instanceof Exchange.PeerGone) {
      throw (IOException) failure;
    }
    if (failure instanceof Head.Bad) {
      error(exchange, ((Head.Bad) failure).status, failure.getMessage(), "platform");
    } else if (failure instanceof InvalidJson && !exchange.isStarted()) {
      error(exchange, 400, failure.getMessage(), "application");
    } else if (failure instanceof BodyTooLarge && !exchange.isStarted()) {
      error(exchange, 413, failure.getMessage(), "application");
    } else {
      System.err.print(Failures.trace(failure));
      System.err.flush();
      error(exchange, 500, "function failed", "function");
    }
  }

  /** An error as JSON with the request's id. Once an answer has begun there is no way but to break it off. */
  static void error(Exchange exchange, int status, String message, String outcome) throws IOException {
    if (exchange.isStarted()) {
      return;
    }
    StringBuilder body = new StringBuilder("{\"error\":");
    Json.quote(body, message);
    body.append(",\"requestId\":");
    if (exchange.head.requestId == null) {
      body.append("null");
    } else {
      Json.quote(body, exchange.head.requestId);
    }
    byte[] bytes = body.append('}').toString().getBytes(StandardCharsets.UTF_8);
    exchange.respond(status, typed(Collections.<String[]>emptyList(), JSON), bytes, outcome);
  }
}
