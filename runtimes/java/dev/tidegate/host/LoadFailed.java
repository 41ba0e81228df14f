package dev.tidegate.host;

/** The classes are there, but offer nothing that can be called. */
final class LoadFailed extends Exception {
  private static final long serialVersionUID = 1;

  LoadFailed(String message) {
    super(message);
  }
}
