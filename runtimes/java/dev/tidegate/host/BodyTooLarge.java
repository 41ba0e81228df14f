package dev.tidegate.host;

import java.io.IOException;

/** The body is over the function's limit; left to propagate, it answers 413. */
public final class BodyTooLarge extends IOException {
  private static final long serialVersionUID = 1;

  BodyTooLarge(long limit) {
    super("the body is over the limit of " + limit + " bytes");
  }
}
