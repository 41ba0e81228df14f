package dev.tidegate.host;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.logging.ConsoleHandler;
import java.util.logging.Formatter;
import java.util.logging.LogRecord;
import java.util.logging.Logger;

/** The circumstances of one call. */
public final class Context {
  private final Config config;
  private final String requestId;
  private final long deadline;

  Context(Config config, String requestId, long deadline) {
    this.config = config;
    this.requestId = requestId;
    this.deadline = deadline;
  }

  /** Also the header X-Request-Id. */
  public String requestId() {
    return requestId;
  }

  public String functionName() {
    return config.function;
  }

  public String namespace() {
    return config.namespace;
  }

  public String revision() {
    return config.revision;
  }

  public long memoryLimitBytes() {
    return config.memory;
  }

  /** Milliseconds since the epoch; 0 without a deadline. */
  public long deadline() {
    return deadline;
  }

  /** Milliseconds until the deadline, never below 0; {@link Long#MAX_VALUE} without one. */
  public long remainingMs() {
    return deadline == 0 ? Long.MAX_VALUE : Math.max(0, deadline - System.currentTimeMillis());
  }

  /** A logger that writes to standard error. */
  public Logger log() {
    return Log.LOGGER;
  }

  /** For handlers that take a Map. */
  Map<String, Object> map() {
    Map<String, Object> map = new LinkedHashMap<String, Object>();
    map.put("requestId", requestId);
    map.put("functionName", config.function);
    map.put("namespace", config.namespace);
    map.put("revision", config.revision);
    map.put("memoryLimitBytes", config.memory);
    map.put("deadline", deadline);
    return map;
  }

  /** Made when it is first asked for: logging takes longer to load than most handlers. */
  private static final class Log {
    static final Logger LOGGER = Logger.getLogger("function");

    static {
      ConsoleHandler handler = new ConsoleHandler();
      handler.setFormatter(new Formatter() {
        @Override
        public String format(LogRecord record) {
          StringBuilder text = new StringBuilder(record.getLevel().getName()).append(' ').append(formatMessage(record)).append('\n');
          if (record.getThrown() != null) {
            text.append(Failures.trace(record.getThrown()));
          }
          return text.toString();
        }
      });
      LOGGER.addHandler(handler);
      LOGGER.setUseParentHandlers(false);
    }
  }
}
