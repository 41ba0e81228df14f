package dev.tidegate.host;

/** What the platform says about the function. */
final class Config {
  final int port = (int) number("PORT", 8080);
  /** The class file or jar, as a path inside. */
  final String entry = text("TIDEGATE_ENTRY", "");
  /** {@code Class} or {@code Class::method}; null where the entry says it. */
  final String handler = System.getenv("TIDEGATE_HANDLER");
  final int concurrency = (int) Math.max(1, number("TIDEGATE_CONCURRENCY", 1));
  final long maxBody = number("TIDEGATE_MAX_BODY", 16L << 20);
  final long memory = number("TIDEGATE_MEMORY", 0);
  /** Milliseconds; 0 where there is no limit. */
  final long timeout = number("TIDEGATE_TIMEOUT_MS", 0);
  final String function = System.getenv("TIDEGATE_FUNCTION");
  final String namespace = System.getenv("TIDEGATE_NAMESPACE");
  final String revision = System.getenv("TIDEGATE_REVISION");

  /** The entry relative to the bundle. */
  String name() {
    int slash = entry.startsWith("/function/") ? 9 : entry.lastIndexOf('/');
    return entry.substring(slash + 1);
  }

  private static String text(String name, String otherwise) {
    String value = System.getenv(name);
    return value == null ? otherwise : value;
  }

  private static long number(String name, long otherwise) {
    try {
      return Long.parseLong(text(name, ""));
    } catch (NumberFormatException unset) {
      return otherwise;
    }
  }
}
