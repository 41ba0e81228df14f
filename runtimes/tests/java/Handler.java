import dev.tidegate.host.Context;
import dev.tidegate.host.Event;
import dev.tidegate.host.Response;
import java.io.InputStream;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

public class Handler {
  public Object handle(Event event, Context context) throws Exception {
    Map<String, Object> map = new LinkedHashMap<>();
    switch (event.path()) {
      case "/event":
        map.put("method", event.method());
        map.put("rawPath", event.rawPath());
        map.put("queryString", event.queryString());
        map.put("query", event.query());
        map.put("list", event.queryList("a"));
        map.put("contentType", event.contentType());
        map.put("text", event.text());
        map.put("header", event.header("X-Thing"));
        map.put("all", event.headerList("x-thing"));
        map.put("hidden", event.header("x-tidegate-deadline-ms") != null);
        return map;
      case "/context":
        map.put("id", context.requestId());
        map.put("function", context.functionName());
        map.put("memory", context.memoryLimitBytes());
        map.put("left", context.remainingMs());
        return map;
      case "/none":
        return null;
      case "/text":
        return "gr\u00fcn";
      case "/bytes":
        return new byte[] {-1, 0};
      case "/number":
        return 1.5;
      case "/list":
        return Arrays.asList(1, "a", null, true);
      case "/not-a-number":
        return Double.NaN;
      case "/proxy":
        map.put("statusCode", 201);
        map.put("headers", Map.of("X-One", "1"));
        map.put("multiValueHeaders", Map.of("x-two", List.of("a", "b")));
        map.put("cookies", List.of("c=1"));
        map.put("body", "aGVsbG8=");
        map.put("isBase64Encoded", true);
        return map;
      case "/response":
        return new Response(Map.of("a", 1), 404).header("x-tidegate-outcome", "ok").header("content-type", "text/x");
      case "/status":
        return new Response("", 99);
      case "/inject":
        return new Response("").header("x-a", "b\r\nx-c: d");
      case "/stream":
        return Stream.of("one", "two");
      case "/late":
        return late();
      case "/size":
        return String.valueOf(size(event.stream()));
      case "/json":
        return event.json();
      case "/ignore":
        return "ignored";
      case "/log":
        System.out.println("to out");
        System.err.println("to err");
        context.log().info("to log");
        return null;
      case "/object":
        return new Object();
      case "/slow":
        Thread.sleep(400);
        return "slow";
      default:
        throw new IllegalArgumentException("no such path");
    }
  }

  private static Iterator<String> late() {
    return new Iterator<String>() {
      private boolean first = true;

      @Override
      public boolean hasNext() {
        return true;
      }

      @Override
      public String next() {
        if (!first) {
          throw new IllegalStateException("late");
        }
        first = false;
        return "one";
      }
    };
  }

  private static int size(InputStream body) throws Exception {
    int size = 0;
    byte[] piece = new byte[1000];
    for (int count = body.read(piece); count >= 0; count = body.read(piece)) {
      size += count;
    }
    return size;
  }
}
