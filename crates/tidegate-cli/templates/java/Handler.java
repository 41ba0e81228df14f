import java.util.Map;

/** Greets whoever is named. */
public final class Handler {
  public static Map<String, Object> handle(Map<String, Object> event, Map<String, Object> context) {
    Map<?, ?> query = (Map<?, ?>) event.get("query");
    Object name = query.get("name");
    if ("POST".equals(event.get("method"))) {
      name = ((String) event.get("body")).trim();
    }
    if (name == null || name.toString().isEmpty()) {
      name = "world";
    }
    System.err.println("greeting " + name);
    return Map.of("hello", name);
  }
}
