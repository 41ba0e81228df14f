package dev.tidegate.host;

import java.lang.reflect.InvocationTargetException;

/** Failures in words: a trace for the log, a line for a deploy. */
final class Failures {
  /** Frames and causes that are written at most: an endless recursion has thousands. */
  private static final int FRAMES = 50;

  private static final int CAUSES = 5;

  private Failures() {}

  static Throwable unwrapped(Throwable failure) {
    Throwable inner = failure;
    while ((inner instanceof InvocationTargetException || inner instanceof ExceptionInInitializerError)
        && inner.getCause() != null) {
      inner = inner.getCause();
    }
    return inner;
  }

  /** The trace, without the host's own frames. */
  static String trace(Throwable failure) {
    StringBuilder text = new StringBuilder();
    Throwable each = failure;
    for (int i = 0; each != null && i < CAUSES; i++) {
      text.append(i == 0 ? "" : "caused by ").append(describe(each)).append('\n');
      int count = 0;
      for (StackTraceElement frame : each.getStackTrace()) {
        if (isOurs(frame)) {
          break;
        }
        if (++count > FRAMES) {
          text.append("    ...\n");
          break;
        }
        text.append("    at ").append(frame).append('\n');
      }
      each = each.getCause() == each ? null : each.getCause();
    }
    return text.toString();
  }

  private static boolean isOurs(StackTraceElement frame) {
    String name = frame.getClassName();
    return name.startsWith("dev.tidegate.host.") || name.startsWith("jdk.internal.reflect.");
  }

  private static String describe(Throwable failure) {
    String message;
    try {
      message = failure.getMessage();
    } catch (Throwable second) {
      message = "its text could not be made";
    }
    String name = failure.getClass().getName();
    return message == null ? name : name.concat(": ").concat(message);
  }

  /** Where and why code could not be loaded, on one line. */
  static String line(Throwable failure) {
    if (failure instanceof LoadFailed) {
      return failure.getMessage();
    }
    String what = describe(failure);
    if (failure instanceof NoClassDefFoundError || failure instanceof ClassNotFoundException) {
      what = "class " + String.valueOf(failure.getMessage()).replace('/', '.')
          + " is missing; put its jar in lib/, or its artifact in the pom.xml";
    } else if (failure instanceof UnsupportedClassVersionError) {
      what = failure.getMessage() + "; this is Java " + System.getProperty("java.version");
    }
    int end = what.indexOf('\n');
    what = end < 0 ? what : what.substring(0, end);
    for (StackTraceElement frame : failure.getStackTrace()) {
      String name = frame.getClassName();
      boolean users = !name.startsWith("java.") && !name.startsWith("jdk.") && !name.startsWith("sun.") && !isOurs(frame);
      if (users && frame.getFileName() != null && frame.getLineNumber() > 0) {
        return frame.getFileName() + ":" + frame.getLineNumber() + ": " + what;
      }
    }
    return what;
  }
}
