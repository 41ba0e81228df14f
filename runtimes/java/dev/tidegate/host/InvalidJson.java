package dev.tidegate.host;

/** The body of the request is not JSON; left to propagate, it answers 400. */
public final class InvalidJson extends RuntimeException {
  private static final long serialVersionUID = 1;

  InvalidJson(String message) {
    super(message);
  }
}
